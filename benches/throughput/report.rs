//! What was measured, for people.

use super::measure::{Row, Setting};
use super::program::OURS;

/// What an execution environment of 1 vCPU gets by default.
pub(crate) const USUAL: Setting = Setting {
    cpus: 1,
    concurrency: 8,
};

/// Prints a setting's rows.
pub(crate) fn print_rows(rows: &[Row]) {
    let Some(Row { setting, rate, .. }) = rows.first() else {
        return;
    };
    println!(
        "\nCPUs: {}, at once: {}, events: {}\n\n   \
         N  program      events/s     CPU  in kernel  × ours      p50      p99    p99.9     memory  \
         Runtime API",
        setting.cpus,
        setting.concurrency,
        match rate {
            None => "always one ready",
            Some(_) => "half as many per second as ours sustains",
        }
    );
    for row in rows {
        // Its queue grew without end.
        let late = row
            .rate
            .filter(|rate| row.invocations_per_second < 0.98 * rate);
        println!(
            "{:>4}  {:<11} {:>9.0} {:>7.1} {:>8.0} % {:>7.2} {:>8.1} {:>8.1} {:>8.1} {:>7.1} MB \
             {:>12.1}{}",
            row.n,
            row.program.name,
            row.invocations_per_second,
            row.cpu_us,
            row.system_share * 100.0,
            row.relative_cpu,
            row.p50_us,
            row.p99_us,
            row.p999_us,
            row.peak_rss_bytes / 1e6,
            row.runtime_api_cpu_us,
            late.map_or(String::new(), |rate| format!(
                "  cannot take {rate:.0} events/s"
            )),
        );
    }
}

fn find<'a>(rows: &'a [Row], concurrency: usize, program: &str, n: u16) -> Option<&'a Row> {
    let setting = Setting {
        concurrency,
        ..USUAL
    };
    let mut of_setting = rows.iter().filter(|row| row.setting == setting);
    of_setting.find(|row| row.n == n && row.program.name == program)
}

/// Prints README's table, as it stands there.
pub(crate) fn print_table(rows: &[Row]) {
    println!(
        "\n| {:<62} | N = 10 | N = 100 | N = 1000 | × *ours*, N = 1000 | p99, N = 10 | p99, N = 1000 |\n\
         |{:-<64}|-------:|--------:|---------:|-------------------:|------------:|--------------:|",
        "", ""
    );
    let of_setting = rows
        .iter()
        .filter(|row| row.setting == USUAL && row.n == 10);
    for Row { program, .. } in of_setting {
        let cell = |concurrency, n, figure: fn(&Row) -> f64| {
            find(rows, concurrency, program.name, n)
                .map_or(String::new(), |row| digits(figure(row)))
        };
        println!(
            "| {:<62} | {:>6} | {:>7} | {:>8} | {:>18} | {:>11} | {:>13} |",
            format!("*{}*: {}", program.name, program.description),
            cell(8, 10, |row| row.cpu_us),
            cell(8, 100, |row| row.cpu_us),
            cell(8, 1000, |row| row.cpu_us),
            cell(8, 1000, |row| row.relative_cpu),
            cell(1, 10, |row| row.p99_us),
            cell(1, 1000, |row| row.p99_us),
        );
    }
    println!(
        "\nMicroseconds: CPU of the process per invocation, one CPU, eight at once; and p99 of the \
         time\nfrom an event's last byte to its reply's last byte, one at once."
    );
}

/// Prints what the table saves, if that was measured.
pub(crate) fn print_answer(rows: &[Row]) {
    if find(rows, 8, "iterative", 0).is_some() && find(rows, 8, "stock", 0).is_some() {
        println!(
            "\nCPU of an invocation in microseconds, and how many times that of the table:\n\n   \
             N  table ({OURS})  iterative        ×      stock        ×"
        );
    }
    for n in [0, 10, 100, 1000] {
        let row = |program| find(rows, 8, program, n);
        let (Some(ours), Some(iterative), Some(stock)) =
            (row(OURS), row("iterative"), row("stock"))
        else {
            continue;
        };
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
