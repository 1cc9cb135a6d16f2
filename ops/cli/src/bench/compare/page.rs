//! The report for people: Markdown between two marks of a page, with plots and the JSON beside it.

use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::plot::{self, Bar};
use super::targets::{self, median};

const BEGIN: &str = "<!-- bench compare: begin -->";
const END: &str = "<!-- bench compare: end -->";
/// Folder of the plots and the JSON, beside the page.
const FOLDER: &str = "benchmarks";

/// Writes the JSON, the plots, and the part of `docs/document` between the marks.
pub(super) fn write(report: &Value, docs: &Path, document: &str) -> anyhow::Result<()> {
    let page = docs.join(document);
    let old = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let new = between_marks(&old, &markdown(report));
    let new = new.with_context(|| format!("{} lacks the line {BEGIN}", page.display()))?;
    let folder = docs.join(FOLDER);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut files = vec![("compare.json", serde_json::to_string_pretty(report)? + "\n")];
    files.extend(plots(report));
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    ensure!(!new.is_empty(), "the page would be empty");
    std::fs::write(&page, new).with_context(|| page.display().to_string())
}

/// `page` with `part` between the marks; `None` where they are not both there.
fn between_marks(page: &str, part: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{part}\n{END}{after}"))
}

fn rows<'a>(report: &'a Value, part: &str) -> &'a [Value] {
    report[part].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The files of the plots.
fn plots(report: &Value) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    let label = |row: &Value, what: &str| format!("{}: {what}", text(&row["system"]));
    let ours = |row: &Value| row["system"] == "Platbook";
    let ingest = rows(report, "ingest").iter().filter_map(|row| {
        let spread = spread(row, "listings_per_second")?;
        Some(Bar { label: label(row, text(&row["way"])), spread, is_ours: ours(row) })
    });
    let mut ingest: Vec<Bar> = ingest.collect();
    if !ingest.is_empty() {
        ingest.sort_by(|a, b| b.spread[1].total_cmp(&a.spread[1]));
        files.push(("ingest.svg", plot::bars("Durable listings a second", &ingest)));
    }
    let whole = rows(report, "reads").iter().filter(|row| {
        let is_whole = matches!(text(&row["case"]), "uncached" | "asked again" | "whole");
        is_whole && row["zip_listings"] == 5_000 && row["readers"] == 1
    });
    let mut reads: Vec<Bar> = whole
        .filter_map(|row| {
            let spread = spread(row, "rows_per_second")?;
            Some(Bar { label: label(row, text(&row["case"])), spread, is_ours: ours(row) })
        })
        .collect();
    if !reads.is_empty() {
        reads.sort_by(|a, b| b.spread[1].total_cmp(&a.spread[1]));
        let title = "Listings a second, one reader of a ZIP of 5,000";
        files.push(("zip.svg", plot::bars(title, &reads)));
    }
    files
}

fn spread(row: &Value, figure: &str) -> Option<[f64; 3]> {
    let value = |name: &str| row["figures"][figure][name].as_f64();
    Some([value("min")?, value("median")?, value("max")?])
}

/// All of it as Markdown.
pub(super) fn markdown(report: &Value) -> String {
    let mut out = conditions(report);
    if !rows(report, "ingest").is_empty() {
        out += &ingest(report);
    }
    if !rows(report, "reads").is_empty() {
        out += &reads(report);
    }
    if !rows(report, "live").is_empty() {
        out += &live(report);
    }
    if !rows(report, "restarts").is_empty() {
        out += &restarts(report);
    }
    out + &aims(report)
}

fn conditions(report: &Value) -> String {
    let versions: Vec<String> = report["versions"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(system, version)| format!("{system} `{}`", text(version)))
        .collect();
    let mut out = format!("Made by `platbook bench compare`. {}\n\n", versions.join(", "));
    out += &circumstances(&report["conditions"]);
    for run in rows(report, "apart") {
        let parts: Vec<&str> = rows(run, "parts").iter().map(text).collect();
        let circumstances = circumstances(&run["conditions"]);
        out += &format!("Measured apart: {}. {circumstances}", parts.join(", "));
    }
    out + "Figures are the median of the rounds, lowest to highest in parentheses.\n\n"
}

/// When, where and how much of what.
fn circumstances(at: &Value) -> String {
    let date = text(&at["at"]).get(..16).unwrap_or_default().replace('T', " ");
    let number = |value: &Value| shown(value.as_f64().unwrap_or_default());
    let build = if at["optimised"] == true { "an optimised build" } else { "no optimised build" };
    format!(
        "{date} UTC, {build}: {} rounds on {} cores, {} GiB, Linux {}; writing 32 KiB with its \
         fdatasync took {} ms (p50), {} ms (p99). Listings of {} bytes, which zstd alone (level \
         1) makes {} times smaller; {} of them are written in each round.\n\n",
        at["rounds"],
        at["machine"]["cores"],
        at["machine"]["memory_gib"],
        text(&at["machine"]["kernel"]),
        number(&at["sync_ms"]["p50"]),
        number(&at["sync_ms"]["p99"]),
        grouped(at["listing_bytes"].as_f64().unwrap_or_default()),
        number(&at["zstd_ratio"]),
        grouped(at["listings"].as_f64().unwrap_or_default()),
    )
}

/// The ceiling in one sentence.
fn bare(report: &Value) -> String {
    let bare = &report["bare"];
    let Some(_) = median(bare, "listings_per_second") else { return String::new() };
    format!(
        "The bare ceiling, which is three logs with fdatasync and three RocksDBs in one process, \
         fed with finished frames: {} listings/s, {} us of CPU and {} bytes a listing.\n\n",
        cell(bare, "listings_per_second"),
        middle(bare, "cpu_us_per_listing"),
        middle(bare, "frame_bytes"),
    )
}

fn ingest(report: &Value) -> String {
    let mut out = String::from("### Durable writes\n\n");
    out += "![listings a second](benchmarks/ingest.svg)\n\n";
    out += &bare(report);
    out += "| system | way | clients | listings/s | request ms p50 | p99 | CPU us a listing | \
            memory MiB | disk MiB | disk bytes a raw byte | syncs a listing and node |\n\
            |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for row in rows(report, "ingest") {
        let cells = [
            cell(row, "listings_per_second"),
            middle(row, "request_ms_p50"),
            middle(row, "request_ms_p99"),
            cell(row, "server_cpu_us_per_listing"),
            middle(row, "memory_mib"),
            middle(row, "disk_mib"),
            middle(row, "disk_bytes_per_raw_byte"),
            middle(row, "syncs_per_listing_and_node"),
        ];
        let (system, way, clients) = (text(&row["system"]), text(&row["way"]), &row["clients"]);
        out += &format!("| {system} | {way} | {clients} | {} |\n", cells.join(" | "));
    }
    out += "\nOne client, one listing after the other, and how often each server synced meanwhile, \
            counted by strace:\n\n\
            | system | ms p50 | p99 | puts under strace | fsync and fdatasync of each server |\n\
            |---|--:|--:|--:|---|\n";
    for row in rows(report, "ingest") {
        if median(row, "alone_ms_p50").is_none() {
            continue;
        }
        let calls = row["synced"]["calls"].as_array().into_iter().flatten();
        let calls: Vec<String> = calls.map(Value::to_string).collect();
        out += &format!(
            "| {} | {} | {} | {} | {} |\n",
            text(&row["system"]),
            cell(row, "alone_ms_p50"),
            middle(row, "alone_ms_p99"),
            row["synced"]["puts"],
            calls.join(", "),
        );
    }
    out + "\n"
}

fn reads(report: &Value) -> String {
    let mut out = String::from(
        "### Reads of a whole ZIP\n\n![listings a second](benchmarks/zip.svg)\n\n\
         | listings | readers | system | case | rows/s | read ms p50 | p99 | first row ms p50 |\n\
         |--:|--:|---|---|--:|--:|--:|--:|\n",
    );
    let (one, whole): (Vec<&Value>, Vec<&Value>) =
        rows(report, "reads").iter().partition(|row| row["case"] == "by id");
    for row in whole {
        out += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            grouped(row["zip_listings"].as_f64().unwrap_or_default()),
            row["readers"],
            text(&row["system"]),
            text(&row["case"]),
            if row["case"] == "304" { String::new() } else { cell(row, "rows_per_second") },
            middle(row, "read_ms_p50"),
            middle(row, "read_ms_p99"),
            middle(row, "first_row_ms_p50"),
        );
    }
    out += "\n### One listing by its id\n\n\
            | readers | system | reads/s | ms p50 | p99 |\n|--:|---|--:|--:|--:|\n";
    for row in one {
        out += &format!(
            "| {} | {} | {} | {} | {} |\n",
            row["readers"],
            text(&row["system"]),
            cell(row, "reads_per_second"),
            middle(row, "read_ms_p50"),
            middle(row, "read_ms_p99"),
        );
    }
    out + "\n"
}

fn live(report: &Value) -> String {
    let mut out = String::from(
        "### At half load\n\n\
         Listings are written at half of the best rate above. First beside one reader of changes \
         (its lag is from the acknowledgement until it has read the change), then beside 2,000 \
         reads by id a second; these times count from when an operation was due.\n\n\
         | system | listings/s | lag ms p50 | p99 | catch-up, changes/s | write ms p50 | p99 | \
         read ms p50 | p99 |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows(report, "live") {
        let cells = [
            cell(row, "written_per_second"),
            middle(row, "lag_ms_p50"),
            cell(row, "lag_ms_p99"),
            cell(row, "catch_up_per_second"),
            middle(row, "write_ms_p50"),
            cell(row, "write_ms_p99"),
            middle(row, "read_ms_p50"),
            cell(row, "read_ms_p99"),
        ];
        out += &format!("| {} | {} |\n", text(&row["system"]), cells.join(" | "));
    }
    out + "\n"
}

fn restarts(report: &Value) -> String {
    let mut out = String::from(
        "### A node that is killed and started again\n\n\
         | system | listings | s until all Raft groups run | s until ready |\n|---|--:|--:|--:|\n",
    );
    for row in rows(report, "restarts") {
        out += &format!(
            "| {} | {} | {} | {} |\n",
            text(&row["system"]),
            grouped(row["listings"].as_f64().unwrap_or_default()),
            cell(row, "votes_s"),
            cell(row, "serves_s"),
        );
    }
    out + "\n"
}

fn aims(report: &Value) -> String {
    let mut out = String::from(
        "### What was aimed at\n\nRatios of the medians above, unless a unit is named.\n\n\
         | figure | aim | reached | |\n|---|---|--:|---|\n",
    );
    for target in targets::all(report) {
        let verdict = if target.is_met { "met" } else { "**missed**" };
        let (what, aim) = (target.what, target.aim);
        out += &format!("| {what} | {aim} | {} | {verdict} |\n", shown(target.reached));
    }
    out
}

/// Middle, lowest and highest.
fn cell(row: &Value, figure: &str) -> String {
    match spread(row, figure) {
        Some([low, middle, high]) if low == high => shown(middle),
        Some([low, middle, high]) => {
            format!("{} ({} to {})", shown(middle), shown(low), shown(high))
        }
        None => String::new(),
    }
}

fn middle(row: &Value, figure: &str) -> String {
    median(row, figure).map(shown).unwrap_or_default()
}

/// Three digits that count.
fn shown(value: f64) -> String {
    match value.abs() {
        value if value >= 100.0 => grouped(value),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 0.1 => format!("{value:.2}"),
        0.0 => "0".to_string(),
        value => format!("{value:.4}"),
    }
}

/// A whole number, its thousands apart.
pub(super) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = between_marks(&page, "new\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n"));
        assert_eq!(between_marks(&new, "new\n").unwrap(), new);
        assert_eq!(between_marks("no marks", "new"), None);
    }

    #[test]
    fn numbers_are_short_and_misses_are_told() {
        assert_eq!(
            [12_345.6, 12.34, 1.234, 0.0123, 0.0].map(shown),
            ["12,346", "12.3", "1.23", "0.0123", "0"]
        );
        let figures = json!({"listings_per_second": {"min": 1.0, "median": 2.0, "max": 3.0}});
        let row = |system, way| json!({"system": system, "way": way, "figures": figures});
        let report = json!({
            "conditions": {"at": "2026-11-30T01:02:03.000Z"},
            "ingest": [row("Platbook", "POST of 500"), row("etcd", "put one by one")],
        });
        let page = markdown(&report);
        assert!(page.contains("2.00 (1.00 to 3.00)"), "{page}");
        assert!(page.contains("at least 5 | 1.00 | **missed** |"), "{page}");
        assert!(plots(&report)[0].1.contains("etcd: put one by one"));
    }

    #[test]
    fn nothing_is_written_where_the_marks_are_missing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("page.md"), "no marks").unwrap();
        assert!(write(&json!({}), dir.path(), "page.md").is_err());
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
        std::fs::write(dir.path().join("page.md"), format!("x\n{BEGIN}\n{END}\n")).unwrap();
        write(&json!({}), dir.path(), "page.md").unwrap();
        assert!(dir.path().join(FOLDER).join("compare.json").exists());
    }
}
