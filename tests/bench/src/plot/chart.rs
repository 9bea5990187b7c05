//! One plot: lines over a logarithmic axis, as SVG.

use crate::numbers::shown;
use anyhow::{Context as _, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use std::ops::Range;
use std::path::Path;

/// Of figures that are compared with each other each has a colour; these can be told apart by everybody.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// Raw limits stand back.
const GREY: RGBColor = RGBColor(120, 120, 120);

/// The picture, and how much of its width the plot has; the rest is the legend's.
const SIZE: (u32, u32) = (1_120, 540);
const PLOT_WIDTH: u32 = 820;

/// The length of a dash and of the gap behind it.
const DASH: (u32, u32) = (6, 5);

/// A series with at most so many points has its values beside them.
const LABELLED_POINTS_MAX: usize = 4;

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ink {
    /// A figure, by its place among those of the plot.
    Figure(usize),
    /// A raw limit.
    Limit,
}

/// One line.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    /// What it shows.
    pub name: String,
    /// Its points, by rising x, all above zero.
    pub points: Vec<(f64, f64)>,
    /// How it looks.
    pub ink: Ink,
    /// Whether it is of the earlier one of two runs.
    pub dashed: bool,
}

/// A plot.
#[derive(Clone, PartialEq, Debug)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// What runs to the right, with its unit.
    pub x: String,
    /// What runs upwards, with its unit.
    pub y: String,
    /// Whether y has a logarithmic axis; else it begins at zero.
    pub log_y: bool,
    /// The lines.
    pub series: Vec<Series>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Chart {
    /// Draws it into a file.
    pub fn draw(&self, path: &Path) -> anyhow::Result<()> {
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
        let (plot, legend) = area.split_horizontally(PLOT_WIDTH);
        let y = span(self.points().map(|(_, y)| y)).context("a plot has points")?;
        let drawn = if self.log_y {
            self.draw_lines(&plot, (y.start / 2.0..y.end * 2.0).log_scale())
        } else {
            self.draw_lines(&plot, 0.0..y.end * 1.15)
        };
        let drawn = drawn.and_then(|()| self.draw_legend(&legend));
        drawn.with_context(|| format!("can't draw {}", path.display()))?;
        area.present().with_context(|| format!("can't write {}", path.display()))
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series.iter().flat_map(|series| series.points.iter().copied())
    }

    fn draw_lines<Y>(&self, area: &Area<'_>, y: Y) -> anyhow::Result<()>
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let x = span(self.points().map(|(x, _)| x)).context("a plot has points")?;
        let x = (x.start / 1.5..x.end * 2.0).log_scale();
        let mut builder = ChartBuilder::on(area);
        builder.caption(&self.title, ("sans-serif", 20)).margin(16).x_label_area_size(48).y_label_area_size(84);
        let mut chart = builder.build_cartesian_2d(x, y)?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(&self.x).y_desc(&self.y).label_style(("sans-serif", 14)).axis_desc_style(("sans-serif", 15));
        // More labels would run into each other.
        mesh.x_labels(6);
        mesh.light_line_style(TRANSPARENT).bold_line_style(BLACK.mix(0.12));
        mesh.x_label_formatter(&|value| shown(*value)).y_label_formatter(&|value| shown(*value));
        mesh.draw()?;
        for series in &self.series {
            let (line, points) = (series.line(), series.points.clone());
            if series.dashed {
                chart.draw_series(DashedLineSeries::new(points, DASH.0, DASH.1, line))?;
            } else {
                chart.draw_series(LineSeries::new(points, line))?;
            }
            let dot = series.colour().filled();
            let text = ("sans-serif", 13).into_font().color(&series.colour());
            chart.draw_series(series.points.iter().map(|point| {
                let value = Text::new(series.value_beside(*point), (8, -16), text.clone());
                EmptyElement::at(*point) + Circle::new((0, 0), 4, dot) + value
            }))?;
        }
        Ok(())
    }

    /// Beside the plot, so that it hides nothing.
    fn draw_legend(&self, area: &Area<'_>) -> anyhow::Result<()> {
        const TOP: i32 = 60;
        const LINE_HEIGHT: i32 = 24;
        for (series, row) in self.series.iter().zip(0..) {
            let y = TOP + row * LINE_HEIGHT;
            let (from, to, line) = ((0, y), (34, y), series.line());
            if series.dashed {
                area.draw(&DashedPathElement::new([from, to], DASH.0, DASH.1, line))?;
            } else {
                area.draw(&PathElement::new([from, to], line))?;
            }
            area.draw(&Circle::new((17, y), 4, series.colour().filled()))?;
            area.draw(&Text::new(series.name.clone(), (44, y - 7), ("sans-serif", 14)))?;
        }
        Ok(())
    }
}

impl Series {
    fn colour(&self) -> RGBColor {
        match self.ink {
            Ink::Figure(place) => COLOURS[place % COLOURS.len()],
            Ink::Limit => GREY,
        }
    }

    fn line(&self) -> ShapeStyle {
        self.colour().stroke_width(2)
    }

    /// The value that stands beside a point; nothing if there are many.
    fn value_beside(&self, point: (f64, f64)) -> String {
        if self.points.len() <= LABELLED_POINTS_MAX { shown(point.1) } else { String::new() }
    }
}

/// From the smallest to the largest.
fn span(values: impl Iterator<Item = f64>) -> Option<Range<f64>> {
    let whole = values.fold(f64::INFINITY..f64::NEG_INFINITY, |span, value| span.start.min(value)..span.end.max(value));
    (whole.start <= whole.end).then_some(whole)
}
