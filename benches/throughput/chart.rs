//! A picture of the rows: CPU per invocation over N, one line for each program.

use plotters::prelude::*;

use super::measure::Row;
use super::program::{OURS, Program};

const SIZE: (u32, u32) = (960, 460);
/// The room for the labels at the right.
const LABELS_WIDTH: u32 = 450;
const LABEL_HEIGHT: i32 = 20;
const FONT: (&str, i32) = ("sans-serif", 14);

/// Draws what was measured on one CPU at a concurrency of 8.
pub(crate) fn svg(rows: &[Row]) -> String {
    let mut svg = String::new();
    draw(&mut svg, rows).expect("a String takes all text");
    svg
}

fn draw(svg: &mut String, rows: &[Row]) -> Result<(), Box<dyn std::error::Error>> {
    let usual = || {
        rows.iter()
            .filter(|row| row.cell.is_usual() && row.cell.n > 0)
    };
    let least = usual().map(|row| row.cpu_us).fold(10.0, f64::min) / 1.2;
    let most = usual().map(|row| row.cpu_us).fold(10.0, f64::max) * 1.2;
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?; // also where the page around it is dark
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Microseconds of CPU per invocation (logarithmic): one CPU, eight at once",
            ("sans-serif", 18),
        )
        .margin(10)
        .margin_right(LABELS_WIDTH)
        .x_label_area_size(50)
        .y_label_area_size(60)
        .build_cartesian_2d((10f64..1000f64).log_scale(), (least..most).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("N: the reply holds F(0) to F(N)")
        .label_style(FONT)
        .x_label_formatter(&f64::to_string)
        .y_label_formatter(&f64::to_string)
        .draw()?;

    let mut ends: Vec<_> = usual().filter(|row| row.cell.n == 1000).collect();
    ends.sort_by(|a, b| a.cpu_us.total_cmp(&b.cpu_us));
    let mut free = i32::MAX;
    for (end, hue) in ends.iter().zip(0u8..) {
        let Program { name, description } = end.cell.program;
        let colour = HSLColor(f64::from(hue) / 10.0, 0.7, 0.45);
        let points = usual().filter(|row| row.cell.program.name == name);
        let points = points.map(|row| (f64::from(row.cell.n), row.cpu_us));
        let style = colour.stroke_width(if name == OURS { 4 } else { 2 });
        chart.draw_series(LineSeries::new(points, style).point_size(3))?;

        // Beside the end of its line, or as little above it as the labels below allow.
        let (x, y) = chart.backend_coord(&(1000.0, end.cpu_us));
        let label_y = y.min(free);
        free = label_y - LABEL_HEIGHT;
        root.draw(&PathElement::new([(x, y), (x + 24, label_y)], colour))?;
        let label = format!("{name}: {description}");
        root.draw(&Text::new(label, (x + 30, label_y - 7), FONT))?;
    }
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}
