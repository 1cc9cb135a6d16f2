//! A report as one page for people: no script, nothing from elsewhere, figures as SVG inside.

use std::fmt::Write;

use super::report::{Injected, Report};
use crate::operator::timestamp;

/// Width of the figures, and room for labels left of them, in pixels.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const FIGURE_HEIGHT: f64 = 110.0;
const LANE_HEIGHT: f64 = 10.0;
/// Colours of nodes, by number; more nodes take them again.
const NODE_COLOURS: [&str; 5] = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377"];
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1040px;margin:2em auto;\
padding:0 1em;color:#222;background:#fff}table{border-collapse:collapse}td,th{padding:.2em .8em;\
text-align:left;border-bottom:1px solid #ddd}td.n{text-align:right;font-variant-numeric:\
tabular-nums}.good{color:#17692f}.bad{color:#b00020}svg{display:block;margin:.3em 0 1.2em}\
text{font:11px system-ui,sans-serif;fill:#555}h1{font-size:1.5em}h2{font-size:1.1em;\
margin-top:2em}";

/// The page, in HTML.
pub fn render(report: &Report) -> String {
    let is_good = report.violations.is_empty();
    let (class, verdict) = match is_good {
        true => ("good", "nothing was violated".to_string()),
        false => ("bad", format!("{} violations", report.violations.len())),
    };
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Platbook chaos, seed \
         {seed}</title><style>{STYLE}</style><h1>Platbook chaos run: <span \
         class=\"{class}\">{verdict}</span></h1><p>Version {version}, seed \
         {seed}, {nodes} nodes, {shards} shards, {length:.0} s, begun {began}.</p>",
        seed = report.seed,
        version = escape(&report.version),
        nodes = report.nodes,
        shards = report.shards,
        length = report.length_ms as f64 / 1000.0,
        began = timestamp(report.began_ms),
    );
    list(&mut page, "Violations", &report.violations);
    list(&mut page, "Checked", &report.checked);
    let [done, refused, unknown] = report.calls;
    let [own_done, own_refused, own_unknown] = report.own_writes;
    put(
        &mut page,
        format_args!(
            "<h2>Calls</h2><table><tr><th><th>done<th>refused<th>unknown<tr><td>shared listings<td \
         class=n>{done}<td class=n>{refused}<td class=n>{unknown}<tr><td>writes of own listings<td \
         class=n>{own_done}<td class=n>{own_refused}<td class=n>{own_unknown}<tr><td>reads of own \
         listings<td class=n>{}<td><td></table>",
            report.own_reads
        ),
    );
    page.push_str(
        "<h2>Over time</h2><p>Grey: while a fault was there. Light: until all nodes were \
                   ready again and calls were answered.</p>",
    );
    page.push_str(&bands(report));
    let figure = |name: &str, unit: &str, values: Vec<f64>, colour: &str| {
        curve(report, name, unit, &values, colour)
    };
    let seconds = &report.seconds;
    let of = |value: fn(&super::report::Second) -> u32| -> Vec<f64> {
        seconds.iter().map(|second| f64::from(value(second))).collect()
    };
    page.push_str(&figure("calls answered", "a second", of(|s| s.done), "#4477aa"));
    page.push_str(&figure("99th percentile", "ms", of(|s| s.p99_ms), "#228833"));
    page.push_str(&figure("refused", "a second", of(|s| s.refused), "#ccbb44"));
    page.push_str(&figure("unknown", "a second", of(|s| s.unknown), "#ee6677"));
    let lags = report.lags_ms.iter().map(|ms| f64::from(*ms)).collect();
    page.push_str(&figure("changes told late by at most", "ms", lags, "#aa3377"));
    page.push_str(&lanes(report));
    page.push_str("<h2>Faults</h2><table><tr><th>at<th>fault<th>whom<th>for<th>served again after");
    for fault in &report.faults {
        put(
            &mut page,
            format_args!(
                "<tr><td class=n>{:.1} s<td>{}<td>{}<td class=n>{} ms<td class=n>{} ms",
                fault.from_ms as f64 / 1000.0,
                escape(&fault.fault),
                escape(&fault.whom),
                fault.to_ms - fault.from_ms,
                fault.recovered_ms - fault.to_ms
            ),
        );
    }
    page.push_str("</table></html>\n");
    page
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = page.write_fmt(text);
}

fn list(page: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    put(page, format_args!("<h2>{title}</h2><ul>"));
    for item in items {
        put(page, format_args!("<li>{}", escape(item)));
    }
    page.push_str("</ul>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Where a moment of the run stands, from left to right.
fn x(report: &Report, ms: u64) -> f64 {
    LEFT + (WIDTH - LEFT) * ms as f64 / report.length_ms.max(1) as f64
}

/// Behind every figure: when faults were there, and when recoveries. Drawn once, and used by all.
fn bands(report: &Report) -> String {
    let mut out = "<svg width=\"0\" height=\"0\"><defs><g id=\"bands\">".to_string();
    let height = FIGURE_HEIGHT;
    let mut band = |from: u64, to: u64, colour: &str, fault: &Injected| {
        let (from, to) = (x(report, from), x(report, to));
        put(
            &mut out,
            format_args!(
                "<rect x=\"{from:.1}\" y=\"0\" width=\"{:.1}\" height=\"{height}\" \
                 fill=\"{colour}\"><title>{}, {}</title></rect>",
                (to - from).max(0.5),
                escape(&fault.fault),
                escape(&fault.whom)
            ),
        );
    };
    for fault in &report.faults {
        band(fault.from_ms, fault.to_ms, "#dddddd", fault);
        band(fault.to_ms, fault.recovered_ms, "#f3f3f3", fault);
    }
    out.push_str("</g></defs></svg>");
    out
}

fn curve(report: &Report, name: &str, unit: &str, values: &[f64], colour: &str) -> String {
    let most = values.iter().copied().fold(1.0, f64::max);
    let top = 14.0;
    let y = |value: f64| top + (FIGURE_HEIGHT - top) * (1.0 - value / most);
    let points: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(second, value)| {
            format!("{:.1},{:.1}", x(report, second as u64 * 1000 + 500), y(*value))
        })
        .collect();
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {FIGURE_HEIGHT}\" width=\"{WIDTH}\" height=\"{FIGURE_HEIGHT}\" \
         role=\"img\" aria-label=\"{name}\"><use href=\"#bands\"/><text x=\"{LEFT}\" \
         y=\"11\">{name}, {unit}; at most {most:.0}</text><line x1=\"{LEFT}\" \
         y1=\"{FIGURE_HEIGHT}\" x2=\"{WIDTH}\" \
         y2=\"{FIGURE_HEIGHT}\" stroke=\"#999\"/><polyline fill=\"none\" stroke=\"{colour}\" \
         stroke-width=\"1.5\" points=\"{}\"/></svg>",
        points.join(" ")
    )
}

/// A lane for each shard, coloured by its leader.
fn lanes(report: &Report) -> String {
    let shards: Vec<u32> = report
        .leaders
        .first()
        .map_or_else(Vec::new, |look| look.by_shard.keys().copied().collect());
    let height = LANE_HEIGHT * shards.len() as f64 + 16.0;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         aria-label=\"leaders\"><text x=\"{LEFT}\" y=\"11\">who led which shard; white: nobody \
         known</text>"
    );
    for (lane, shard) in shards.iter().enumerate() {
        let y = 16.0 + LANE_HEIGHT * lane as f64;
        put(&mut out, format_args!("<text x=\"0\" y=\"{:.1}\">shard {shard}</text>", y + 9.0));
        for (from_ms, to_ms, leader) in reigns(report, *shard) {
            let (from, to) = (x(report, from_ms), x(report, to_ms));
            let colour = NODE_COLOURS[leader as usize % NODE_COLOURS.len()];
            put(
                &mut out,
                format_args!(
                    "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                     fill=\"{colour}\"><title>node {leader}</title></rect>",
                    to - from,
                    LANE_HEIGHT - 1.0
                ),
            );
        }
    }
    out.push_str("</svg>");
    out
}

/// From when to when a node was seen leading the shard, in order.
fn reigns(report: &Report, shard: u32) -> Vec<(u64, u64, u64)> {
    let mut reigns: Vec<(u64, u64, u64)> = Vec::new();
    for pair in report.leaders.windows(2) {
        let Some(Some(leader)) = pair[0].by_shard.get(&shard) else { continue };
        let (from, to) = (pair[0].at_ms, pair[1].at_ms);
        match reigns.last_mut() {
            Some((_, end, same)) if *end == from && same == leader => *end = to,
            Some(_) | None => reigns.push((from, to, *leader)),
        }
    }
    reigns
}

#[cfg(test)]
mod tests {
    use super::super::report::{Leaders, Second};
    use super::*;

    fn report() -> Report {
        Report {
            version: "0.1.0".into(),
            seed: 7,
            began_ms: 1,
            length_ms: 4_000,
            nodes: 3,
            shards: 1,
            faults: vec![Injected {
                fault: "kill".into(),
                whom: "node 1".into(),
                from_ms: 1_000,
                to_ms: 2_000,
                recovered_ms: 2_500,
            }],
            leaders: [0, 1_000, 2_000]
                .map(|at_ms| Leaders { at_ms, by_shard: [(0, Some(2)), (1, None)].into() })
                .to_vec(),
            seconds: vec![Second { done: 5, refused: 1, unknown: 0, p99_ms: 9 }; 4],
            lags_ms: vec![3, 900, 0],
            calls: [20, 4, 0],
            own_writes: [9, 0, 0],
            own_reads: 3,
            checked: vec!["order < chaos & time".into()],
            violations: Vec::new(),
            histories: Default::default(),
        }
    }

    #[test]
    fn a_page_needs_nothing_but_itself_and_shows_its_verdict() {
        let page = render(&report());
        assert!(page.contains("nothing was violated") && page.contains("seed 7"));
        assert!(page.contains("order &lt; chaos &amp; time"));
        for foreign in ["http:", "https:", "<script", "src=", "@import"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        let bad = Report { violations: vec!["a read went back".into()], ..report() };
        assert!(render(&bad).contains("class=\"bad\">1 violations"));
    }

    #[test]
    fn the_shards_leader_is_drawn_where_one_was_known() {
        let page = render(&report());
        assert_eq!(page.matches("<title>node 2</title>").count(), 1);
    }
}
