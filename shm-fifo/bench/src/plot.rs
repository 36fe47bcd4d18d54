//! The rows as bars: a panel for each measurement and length of messages.

use crate::row::Row;
use crate::suite::STREAM_BYTES;
use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Pixels.
const WIDTH: u32 = 1240;
const TITLE_HEIGHT: u32 = 64;
const PANEL_HEAD: i32 = 44;
const BAR_PITCH: i32 = 22;
const NAMES_WIDTH: i32 = 172;
const VALUES_WIDTH: i32 = 70;

const OURS: RGBColor = RGBColor(0xC4, 0x1E, 0x3A);
const PEERS: RGBColor = RGBColor(0x5B, 0x7D, 0xA8);
const LIMITS: RGBColor = RGBColor(0xB0, 0xB0, 0xB0);

struct Panel {
    title: String,
    bars: Vec<(&'static str, f64)>,
    /// Longer bars are cut off there.
    longest: f64,
    decimals: usize,
}

pub fn draw(rows: &[Row], machine: &str, path: &Path) -> Result<()> {
    let panels = panels(rows);
    let columns = 2;
    let panel_height = PANEL_HEAD
        + 12
        + BAR_PITCH * panels.iter().map(|panel| panel.bars.len() as i32).max().unwrap_or(0);
    let lines = panels.len().div_ceil(columns) as u32;
    let height = TITLE_HEIGHT + lines * panel_height as u32;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (title, body) = root.split_vertically(TITLE_HEIGHT);
    draw_title(&title, machine)?;
    let areas = body.split_evenly((lines as usize, columns));
    for (panel, area) in panels.iter().zip(&areas) {
        draw_panel(panel, area)?;
    }
    root.present()?;
    Ok(())
}

/// Round trips of 40 bytes, then streams of all lengths: the best first.
fn panels(rows: &[Row]) -> Vec<Panel> {
    let mut panels = Vec::new();
    let mut bars: Vec<_> = rows.iter().filter_map(round_trip_of_40).collect();
    bars.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    if let Some(&(_, shortest)) = bars.first() {
        let title = "Round trip of 40 B: median, ns (less is better)".to_owned();
        panels.push(Panel { title, bars, longest: 6.0 * shortest, decimals: 0 });
    }
    for bytes in STREAM_BYTES {
        let mut bars: Vec<_> = rows.iter().filter_map(|row| stream_of(row, bytes)).collect();
        bars.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        if let Some(&(_, longest)) = bars.first() {
            let title = format!("One way, messages of {bytes} B: GB/s (more is better)");
            panels.push(Panel { title, bars, longest, decimals: 2 });
        }
    }
    panels
}

fn round_trip_of_40(row: &Row) -> Option<(&'static str, f64)> {
    match *row {
        Row::Rtt { name, message_bytes: 40, p50_ns, .. } => Some((name, p50_ns)),
        _ => None,
    }
}

fn stream_of(row: &Row, bytes: usize) -> Option<(&'static str, f64)> {
    match *row {
        Row::Stream { name, message_bytes, gb_per_s, .. } if message_bytes == bytes => {
            Some((name, gb_per_s))
        }
        _ => None,
    }
}

fn draw_title(area: &Area<'_>, machine: &str) -> Result<()> {
    let heading = "shm-fifo beside its peers and the limits of the machine";
    text(area, heading, (16, 20), 22.0, &BLACK, HPos::Left)?;
    text(area, machine, (16, 46), 14.0, &BLACK, HPos::Left)
}

fn draw_panel(panel: &Panel, area: &Area<'_>) -> Result<()> {
    let room = area.dim_in_pixel().0 as i32 - NAMES_WIDTH - VALUES_WIDTH;
    text(area, &panel.title, (16, 24), 16.0, &BLACK, HPos::Left)?;
    for (index, &(name, value)) in panel.bars.iter().enumerate() {
        let middle = PANEL_HEAD + BAR_PITCH * index as i32 + BAR_PITCH / 2;
        let part = (value / panel.longest).min(1.0);
        let end = NAMES_WIDTH + (part * f64::from(room)) as i32;
        let color = color_of(name);
        text(area, name, (NAMES_WIDTH - 8, middle), 13.0, &color_of_name(name), HPos::Right)?;
        let corners = [(NAMES_WIDTH, middle - 8), (end.max(NAMES_WIDTH + 1), middle + 8)];
        area.draw(&Rectangle::new(corners, color.filled()))?;
        if value > panel.longest {
            // Not all of it is shown: a gap near the end says so.
            let gap = [(end - 24, middle - 8), (end - 18, middle + 8)];
            area.draw(&Rectangle::new(gap, WHITE.filled()))?;
        }
        let label = format!("{value:.*}", panel.decimals);
        text(area, &label, (end + 6, middle), 13.0, &BLACK, HPos::Left)?;
    }
    Ok(())
}

fn color_of(name: &str) -> RGBColor {
    if name.starts_with("shm-fifo") {
        OURS
    } else if name.starts_with("limit") {
        LIMITS
    } else {
        PEERS
    }
}

fn color_of_name(name: &str) -> RGBColor {
    if name.starts_with("shm-fifo") { OURS } else { BLACK }
}

fn text(
    area: &Area<'_>,
    text: &str,
    position: (i32, i32),
    size: f64,
    color: &RGBColor,
    anchor: HPos,
) -> Result<()> {
    let style = ("sans-serif", size).into_font().color(color).pos(Pos::new(anchor, VPos::Center));
    area.draw(&Text::new(text.to_owned(), position, style))?;
    Ok(())
}
