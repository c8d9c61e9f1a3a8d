//! A picture of the rows: CPU per invocation over N, one line for each program.

use std::fmt::{self, Write};

use super::measure::Row;
use super::program::{OURS, Program};
use super::report::USUAL;

const N_TICKS: [f64; 3] = [10.0, 100.0, 1000.0];
/// In microseconds.
const CPU_TICKS: [f64; 15] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4,
];

const LEFT: f64 = 60.0;
const RIGHT: f64 = 500.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 400.0;
const LABEL_LEFT: f64 = 530.0;
const LABEL_HEIGHT: f64 = 20.0;

/// The lines keep their colours, which stand out from both backgrounds.
const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.heading { font-size: 16px }
.heading, .ours { font-weight: 600 }
.background { fill: #ffffff }
.grid { stroke: #d1d9e0 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .background { fill: #0d1117 }
  .grid { stroke: #3d444d }
}";

/// A logarithmic axis: its first and last value, and where they are in the picture.
struct Axis {
    first: f64,
    last: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let share = (value / self.first).ln() / (self.last / self.first).ln();
        self.start + share * (self.end - self.start)
    }
}

struct Line<'a> {
    program: Program,
    /// In the order of N.
    rows: Vec<&'a Row>,
    label_y: f64,
}

/// Draws what was measured on one CPU at a concurrency of 8.
pub(crate) fn svg(rows: &[Row]) -> String {
    let usual = || rows.iter().filter(|row| row.setting == USUAL && row.n > 0);
    let mut lines: Vec<_> = usual()
        .filter(|row| row.n == 10)
        .map(|Row { program, .. }| Line {
            program: *program,
            rows: usual()
                .filter(|row| row.program.name == program.name)
                .collect(),
            label_y: 0.0,
        })
        .collect();
    let least = usual().map(|row| row.cpu_us).fold(CPU_TICKS[4], f64::min);
    let most = usual().map(|row| row.cpu_us).fold(CPU_TICKS[4], f64::max);
    let x = Axis {
        first: N_TICKS[0],
        last: N_TICKS[2],
        start: LEFT,
        end: RIGHT,
    };
    let ticks = CPU_TICKS.into_iter();
    let y = Axis {
        first: ticks.clone().rfind(|tick| *tick <= least).unwrap_or(least),
        last: ticks.clone().find(|tick| *tick >= most).unwrap_or(most),
        start: BOTTOM,
        end: TOP,
    };
    place_labels(&mut lines, &y);

    let mut svg = String::new();
    draw(&mut svg, &lines, &x, &y).expect("a String takes all text");
    svg
}

fn colour(name: &str) -> &'static str {
    match name {
        OURS | "ours-off" => "#2f81f7",
        "no-op" => "#2da44e",
        "layer" => "#1b9aaa",
        "service" => "#bf8700",
        "stock" => "#d9730d",
        "iterative" => "#a371f7",
        "python" => "#e5534b",
        _ => "#8b949e",
    }
}

/// Puts each label beside the end of its line, or as little above it as the labels below allow.
fn place_labels(lines: &mut [Line], y: &Axis) {
    for line in &mut *lines {
        line.label_y = line.rows.last().map_or(BOTTOM, |row| y.at(row.cpu_us));
    }
    lines.sort_by(|a, b| b.label_y.total_cmp(&a.label_y));
    let mut free = BOTTOM;
    for line in lines {
        line.label_y = line.label_y.min(free);
        free = line.label_y - LABEL_HEIGHT;
    }
}

fn draw(svg: &mut String, lines: &[Line], x: &Axis, y: &Axis) -> fmt::Result {
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 460" role="img" aria-labelledby="title">
<title id="title">CPU per invocation over N</title>
<style>
{STYLE}
</style>
<rect class="background" width="960" height="460"/>
<text class="heading" x="20" y="28">CPU per invocation, in microseconds</text>
<text x="20" y="48">one CPU, eight invocations at once; both axes are logarithmic</text>"#
    )?;
    for tick in CPU_TICKS {
        if (y.first..=y.last).contains(&tick) {
            let (y, text_x) = (y.at(tick), LEFT - 10.0);
            writeln!(
                svg,
                r#"<path class="grid" d="M{LEFT} {y:.1}H{RIGHT}"/><text x="{text_x}" y="{y:.1}" dy="4" text-anchor="end">{tick}</text>"#
            )?;
        }
    }
    let (middle, text_y) = (f64::midpoint(LEFT, RIGHT), BOTTOM + 45.0);
    writeln!(
        svg,
        r#"<text x="{middle}" y="{text_y}" text-anchor="middle">N: the reply holds F(0) to F(N)</text>"#
    )?;
    for tick in N_TICKS {
        let (x, text_y) = (x.at(tick), BOTTOM + 20.0);
        writeln!(
            svg,
            r#"<path class="grid" d="M{x:.1} {TOP}V{BOTTOM}"/><text x="{x:.1}" y="{text_y}" text-anchor="middle">{tick}</text>"#
        )?;
    }
    for line in lines {
        let Program { name, description } = line.program;
        let colour = colour(name);
        let (class, width) = match name {
            OURS => ("ours", 4),
            _ => ("other", 2),
        };
        let dashes = if name.ends_with("-off") {
            "5 4"
        } else {
            "none"
        };
        let label_y = line.label_y;
        let (mut path, mut dots, mut end) = (String::new(), String::new(), String::new());
        for row in &line.rows {
            let (x, y) = (x.at(row.n.into()), y.at(row.cpu_us));
            end = format!("{x:.1} {y:.1}");
            write!(path, "{}{end}", if path.is_empty() { 'M' } else { 'L' })?;
            write!(dots, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3"/>"#)?;
        }
        writeln!(
            svg,
            r#"<g stroke="{colour}" fill="{colour}">
<path d="{path}" fill="none" stroke-width="{width}" stroke-dasharray="{dashes}"/>
<path d="M{end}L{} {label_y:.1}"/>{dots}
</g>
<text class="{class}" x="{LABEL_LEFT}" y="{label_y:.1}" dy="4">{name}: {description}</text>"#,
            LABEL_LEFT - 6.0
        )?;
    }
    writeln!(svg, "</svg>")
}
