//! What was measured, for people.

use super::measure::Row;
use super::program::{OURS, Program};

/// Prints rows of the same CPUs and as many invocations at once.
pub(crate) fn print_rows(rows: &[Row]) {
    let cell = rows[0].cell;
    println!(
        "\nCPUs: {}, at once: {}, events: {}\n\n   \
         N  program      events/s     CPU  in kernel  × ours      p50      p99    p99.9     memory  \
         Runtime API",
        cell.cpus,
        cell.concurrency,
        match cell.rate {
            None => "always one ready",
            Some(_) => "half as many per second as ours sustains",
        }
    );
    for row in rows {
        print!(
            "{:>4}  {:<11} {:>9.0} {:>7.1} {:>8.0} % {:>7.2} {:>8.1} {:>8.1} {:>8.1} {:>7.1} MB \
             {:>12.1}",
            row.cell.n,
            row.cell.program.name,
            row.invocations_per_second,
            row.cpu_us,
            row.system_share * 100.0,
            row.relative_cpu,
            row.p50_us,
            row.p99_us,
            row.p999_us,
            row.peak_rss_bytes / 1e6,
            row.runtime_api_cpu_us,
        );
        match row.cell.rate {
            // Its queue grew without end.
            Some(rate) if row.invocations_per_second < 0.98 * rate => {
                println!("  cannot take {rate:.0} events/s");
            }
            _ => println!(),
        }
    }
}

/// What was measured of a program on one CPU.
pub(crate) fn find<'a>(
    rows: &'a [Row],
    concurrency: usize,
    program: &str,
    n: u16,
) -> Option<&'a Row> {
    rows.iter().find(|Row { cell, .. }| {
        cell.cpus == 1
            && cell.concurrency == concurrency
            && cell.program.name == program
            && cell.n == n
    })
}

/// Prints README's table, as it stands there.
pub(crate) fn print_table(rows: &[Row]) {
    println!(
        "\n| {:<62} | N = 10 | N = 100 | N = 1000 | × *ours*, N = 1000 | p99, N = 10 | p99, N = 1000 |\n\
         |{:-<64}|-------:|--------:|---------:|-------------------:|------------:|--------------:|",
        "", ""
    );
    let usual = rows.iter().map(|row| row.cell);
    for cell in usual.filter(|cell| cell.is_usual() && cell.n == 10) {
        let Program { name, description } = cell.program;
        let figure = |concurrency, n, figure: fn(&Row) -> f64| {
            find(rows, concurrency, name, n).map_or(String::new(), |row| digits(figure(row)))
        };
        println!(
            "| {:<62} | {:>6} | {:>7} | {:>8} | {:>18} | {:>11} | {:>13} |",
            format!("*{name}*: {description}"),
            figure(8, 10, |row| row.cpu_us),
            figure(8, 100, |row| row.cpu_us),
            figure(8, 1000, |row| row.cpu_us),
            figure(8, 1000, |row| row.relative_cpu),
            figure(1, 10, |row| row.p99_us),
            figure(1, 1000, |row| row.p99_us),
        );
    }
    println!(
        "\nMicroseconds: CPU of the process per invocation, one CPU, eight at once; and p99 of the \
         time\nfrom an event's last byte to its reply's last byte, one at once."
    );
}

/// Prints what the table saves.
pub(crate) fn print_answer(rows: &[Row]) {
    println!(
        "\nCPU of an invocation in microseconds, and how many times that of the table:\n\n   \
         N  table ({OURS})  iterative        ×      stock        ×"
    );
    for n in [0, 10, 100, 1000] {
        let [ours, iterative, stock] = [OURS, "iterative", "stock"]
            .map(|program| find(rows, 8, program, n).expect("each is measured for each N"));
        println!(
            "{n:>4}  {:>12}  {:>9} {:>8}  {:>9} {:>8}",
            digits(ours.cpu_us),
            digits(iterative.cpu_us),
            digits(iterative.relative_cpu),
            digits(stock.cpu_us),
            digits(stock.relative_cpu),
        );
    }
}

/// Three digits or more.
fn digits(figure: f64) -> String {
    match figure {
        ..9.995 => format!("{figure:.2}"),
        ..99.95 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}
