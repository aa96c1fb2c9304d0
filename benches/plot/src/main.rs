//! Draws what `syncd bench concurrency --json FILE` wrote: time and throughput against the number of jobs, as SVG and PNG.

use anyhow::{Context, ensure};
use clap::Parser;
use kuva::backend::png::PngBackend;
use kuva::backend::svg::SvgBackend;
use kuva::plot::{LegendPosition, LinePlot, ScatterPlot};
use kuva::render::annotations::{ReferenceLine, TextAnnotation};
use kuva::render::figure::Figure;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;

/// Draw what `syncd bench concurrency --json FILE` wrote
#[derive(Debug, Parser)]
struct Arguments {
    /// What was measured
    #[arg(value_name = "JSON")]
    json: PathBuf,
    /// Where the drawings go, without the ending: `.svg` and `.png` are added
    #[arg(value_name = "FILE")]
    out: PathBuf,
    /// Another program's time for the same files in the same run, as a line: `rsync over TLS=3.2`
    #[arg(long, value_name = "NAME=SECONDS", value_parser = parse_reference)]
    reference: Vec<(String, f64)>,
}

fn parse_reference(text: &str) -> Result<(String, f64), String> {
    let wrong = || "expected NAME=SECONDS".to_owned();
    let (name, seconds) = text.rsplit_once('=').ok_or_else(wrong)?;
    match seconds.parse() {
        Ok(seconds) if seconds > 0.0 => Ok((name.to_owned(), seconds)),
        _ => Err(wrong()),
    }
}

#[derive(Debug, Deserialize)]
struct Measured {
    format: u32,
    processors: usize,
    files: u64,
    bytes: u64,
    runs: Vec<Run>,
    summary: Vec<Summary>,
}

#[derive(Debug, Deserialize)]
struct Run {
    jobs: u32,
    seconds: f64,
    mb_per_second: f64,
}

#[derive(Debug, Deserialize)]
struct Summary {
    jobs: u32,
    seconds: f64,
    mb_per_second: f64,
}

const TIME: &str = "#2563eb";
const RATE: &str = "#0f766e";
const OTHERS: [&str; 3] = ["#b45309", "#7c3aed", "#be123c"];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let name = arguments.json.display();
    let text = std::fs::read(&arguments.json).with_context(|| format!("cannot read `{name}`"))?;
    let measured: Measured = serde_json::from_slice(&text)
        .with_context(|| format!("`{name}` is not from `syncd bench concurrency`"))?;
    ensure!(measured.format == 1, "`{name}` is of a later version");
    ensure!(!measured.summary.is_empty(), "`{name}` has no runs");
    let scene = figure(&measured, &arguments.reference).render();
    let svg = SvgBackend::new().render_scene(&scene);
    let png = PngBackend::new().render_scene(&scene);
    let png = png.map_err(anyhow::Error::msg)?;
    for (ending, bytes) in [("svg", svg.as_bytes()), ("png", &png)] {
        let path = arguments.out.with_extension(ending);
        std::fs::write(&path, bytes)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

/// Numbers of jobs double: the axis has their logarithm.
fn at(jobs: u32) -> f64 {
    f64::from(jobs).log2()
}

fn figure(measured: &Measured, reference: &[(String, f64)]) -> Figure {
    let megabytes = measured.bytes as f64 / 1e6;
    let rounds = measured.runs.len() / measured.summary.len();
    let each = |value: fn(&Run) -> f64| -> Vec<(f64, f64)> {
        let runs = measured.runs.iter();
        runs.map(|run| (at(run.jobs), value(run))).collect()
    };
    let middle = |value: fn(&Summary) -> f64| -> Vec<(f64, f64)> {
        let rows = measured.summary.iter();
        rows.map(|row| (at(row.jobs), value(row))).collect()
    };
    let time = panel(each(|run| run.seconds), middle(|row| row.seconds), TIME);
    let rate = panel(
        each(|run| run.mb_per_second),
        middle(|row| row.mb_per_second),
        RATE,
    );
    // The colours say in the second panel what the names say in the first, where there is more room.
    let rates = reference.iter();
    let rates: Vec<(String, f64)> = rates
        .map(|(_, seconds)| (String::new(), megabytes / seconds))
        .collect();
    let layouts = vec![
        layout(&time, "time", "seconds", reference),
        layout(&rate, "throughput", "MB/s", &rates),
    ];
    let title = format!(
        "syncd upload: {} files, {megabytes:.0} MB, {} processors, median of {rounds}",
        measured.files, measured.processors
    );
    Figure::new(1, 2)
        .with_title(title)
        .with_title_size(18)
        .with_plots(vec![time, rate])
        .with_layouts(layouts)
        .with_spacing(30.0)
        .with_figure_size(1080.0, 460.0)
}

/// The middle of the rounds as a line, each round as a dot.
fn panel(each: Vec<(f64, f64)>, middle: Vec<(f64, f64)>, color: &str) -> Vec<Plot> {
    let line = LinePlot::new()
        .with_data(middle.clone())
        .with_color(color)
        .with_stroke_width(2.5);
    let dots = ScatterPlot::new()
        .with_data(each)
        .with_color(color)
        .with_size(3.0)
        .with_marker_opacity(0.45);
    let knots = ScatterPlot::new()
        .with_data(middle)
        .with_color(color)
        .with_size(5.0);
    vec![Plot::Line(line), Plot::Scatter(dots), Plot::Scatter(knots)]
}

fn layout(plots: &[Plot], title: &str, unit: &str, others: &[(String, f64)]) -> Layout {
    let highest = others.iter().map(|(_, value)| *value);
    let highest = points(plots)
        .map(|(_, y)| y)
        .chain(highest)
        .fold(0.0, f64::max);
    let across = points(plots).map(|(x, _)| x);
    let (least, most) = across.fold((f64::MAX, f64::MIN), |(least, most), x| {
        (least.min(x), most.max(x))
    });
    let jobs = TickFormat::Custom(Arc::new(|at: f64| format!("{:.0}", at.exp2())));
    let mut layout = Layout::auto_from_plots(plots)
        .with_title(format!("{title} ({unit})"))
        .with_title_size(15)
        .with_x_label("files at a time (--jobs)")
        .with_x_axis_min(least - 0.2)
        .with_x_axis_max(most + 0.2)
        .with_label_size(14)
        .with_tick_size(12)
        .with_x_tick_step(1.0)
        .with_x_tick_format(jobs)
        .with_y_axis_min(0.0)
        .with_y_axis_max(highest * 1.12)
        .with_legend_position(LegendPosition::InsideBottomRight);
    let lowest = others.iter().map(|(_, value)| *value);
    let lowest = lowest.fold(f64::MAX, f64::min);
    for ((name, value), color) in others.iter().zip(OTHERS.iter().cycle()) {
        let line = ReferenceLine::horizontal(*value)
            .with_color(*color)
            .with_stroke_width(1.5)
            .with_dasharray("6 4");
        layout = layout.with_reference_line(line);
        // Between two numbers of jobs, where no dots are; the lowest below its line, so that two do not meet.
        let below = if *value > lowest { 0.0 } else { 0.075 };
        let name = TextAnnotation::new(name.clone(), (least + most) / 2.0, value - below * highest);
        layout = layout.with_annotation(name);
    }
    layout
}

/// All that is drawn.
fn points(plots: &[Plot]) -> impl Iterator<Item = (f64, f64)> {
    plots.iter().flat_map(|plot| match plot {
        Plot::Line(line) => line.data.iter().map(|point| (point.x, point.y)).collect(),
        Plot::Scatter(dots) => dots.data.iter().map(|point| (point.x, point.y)).collect(),
        _ => Vec::new(),
    })
}
