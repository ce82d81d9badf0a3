//! A report as one HTML file that needs nothing else: what held and what broke, and a picture of the run.
//!
//! The picture ([`picture`]) is plain SVG with a lane a node; what a mark means is said by its `title`, so that a
//! pointer over it is all one needs. No script, no font, no address outside the file.

mod picture;

use crate::case::Case;
use crate::report::Report;
use crate::story;

/// How it looks. Colours are told apart by those who see fewer of them, too.
const STYLE: &str = include_str!("html/style.css");

/// The file.
pub fn page(case: &Case, report: &Report) -> String {
    let mut out = String::new();
    let verdict = if report.ok {
        ("good", "every promise held")
    } else {
        ("bad", "a promise was broken")
    };
    let mut add = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    add("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">");
    add("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    add(&format!(
        "<title>{} · seed {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>",
        escaped(&case.title),
        case.seed
    ));
    add(&format!("<h1>{}</h1>", escaped(&case.title)));
    if !case.about.is_empty() {
        add(&format!("<p class=\"about\">{}</p>", escaped(&case.about)));
    }
    add(&format!(
        "<p><b class=\"{}\">{}</b> · seed {} · {} nodes · {} clients · {:.1} virtual seconds in {:.1} s · {} events · \
         trace <code>{}</code></p>",
        verdict.0,
        verdict.1,
        case.seed,
        case.nodes,
        case.clients,
        report.virtual_s,
        report.wall_s,
        report.events,
        report.trace.get(..16).unwrap_or(&report.trace)
    ));
    if !report.violations.is_empty() {
        add("<h2>Which promise broke</h2>\n<ol class=\"broken\">");
        for violation in &report.violations {
            let (at, what) = (seconds(violation.at_ms), escaped(&violation.what));
            add(&format!(
                "<li><b>{}</b> at {at}: {what}</li>",
                escaped(violation.checker)
            ));
        }
        add("</ol>");
    }
    add("<h2>The run</h2>");
    add(&picture::draw(case, report));
    add(LEGEND);
    add("<h2>What was expected</h2>\n<ul class=\"expected\">");
    for (what, met) in case.judge(report) {
        let what = escaped(&what);
        match met {
            Ok(()) => add(&format!("<li class=\"good\">{what}</li>")),
            Err(why) => add(&format!("<li class=\"bad\">{what}: {}</li>", escaped(&why))),
        }
    }
    add("</ul>\n<h2>What struck</h2>\n<table>");
    for (at_ms, what) in &report.story {
        add(&format!(
            "<tr><td>{}</td><td>{}</td></tr>",
            seconds(*at_ms),
            escaped(what)
        ));
    }
    add("</table>\n<h2>What there was of what</h2>\n<table>");
    for (what, n) in &report.counts {
        add(&format!(
            "<tr><td class=\"number\">{n}</td><td>{}</td></tr>",
            escaped(what)
        ));
    }
    add("</table>\n<h2>The story</h2>");
    add(&format!(
        "<details><summary>as text</summary><pre>{}</pre></details>",
        escaped(&story::tell(case, report))
    ));
    add("<details><summary>as a case that replays</summary>");
    add(&format!(
        "<pre>{}</pre></details>\n</body>\n</html>",
        escaped(&case.to_toml())
    ));
    out
}

/// The meaning of the colours.
const LEGEND: &str = "<p class=\"legend\">\
<span><i style=\"background:#0072b2\"></i>leads</span>\
<span><i style=\"background:#bcd9ee\"></i>follows</span>\
<span><i style=\"background:#f6d58a\"></i>knows no leader</span>\
<span><i class=\"down\"></i>down</span>\
<span><i class=\"paused\"></i>paused</span>\
<span><i style=\"background:#d9c2ec\"></i>cut</span>\
<span><i style=\"background:#009e73\"></i>acknowledged</span>\
<span><i style=\"background:#8a8f98\"></i>refused</span>\
<span><i style=\"background:#d55e00\"></i>unknown: no answer, or none that says</span>\
<span><i style=\"background:#e69f00\"></i>slow sync</span>\
<span><i style=\"background:#c1121f\"></i>failed sync, stop, alarm, broken promise</span>\
<span><i style=\"background:#56b4e9\"></i>a seal was seen</span>\
<span><i style=\"background:#009e73;height:4px\"></i>chain certified to its end</span>\
<span><i style=\"background:#e69f00;height:4px\"></i>certificates lag behind</span></p>";

/// Text that HTML takes as text.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1_000, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_can_not_become_markup() {
        assert_eq!(
            escaped("a<b & \"c\">\u{7}"),
            "a&lt;b &amp; &quot;c&quot;&gt;\u{fffd}"
        );
    }
}
