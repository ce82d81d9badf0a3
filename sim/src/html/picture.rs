//! The timeline as SVG: time runs to the right, a lane a node, faults above, clients' seals below.
//!
//! A node's lane has three rows: what it is (leads, follows, down…), what was asked of it and how that ended, and how
//! far its certificates reach. Cuts lie over the lanes of those they cut off.

use std::fmt::Write as _;

use super::{escaped, seconds};
use crate::case::Case;
use crate::faults::Fault;
use crate::report::Report;
use crate::story::{label, shortened};
use crate::timeline::{Attempt, Heard, Role, Timeline, What};
use crate::trace::Who;

/// Room for the lanes' names.
const LEFT: f64 = 76.0;
/// Width of the picture, unless the run is long.
const WIDTH: f64 = 1_440.0;
/// A second is at least so wide.
const SECOND: f64 = 12.0;
/// Rows of labels for faults.
const ROWS: usize = 7;
/// Height of such a row.
const ROW: f64 = 15.0;
/// Height of a lane, and the space below it.
const LANE: f64 = 58.0;
const GAP: f64 = 10.0;
/// Height of the lane of seals.
const SEALS: f64 = 44.0;

/// Draws it.
pub(super) fn draw(case: &Case, report: &Report) -> String {
    let timeline = &report.timeline;
    let last = timeline
        .events
        .iter()
        .map(|event| event.at_ms)
        .chain(report.violations.iter().map(|v| v.at_ms));
    let end_ms = last.max().unwrap_or(0).max(1_000);
    let width = (number(end_ms) / 1_000.0 * SECOND).max(WIDTH - LEFT - 20.0);
    let lanes_at = 34.0 + ROW * number(ROWS as u64);
    let nodes = timeline.nodes(case.nodes);
    let seals_at = lanes_at + number(nodes.len() as u64) * (LANE + GAP);
    let mut picture = Picture {
        out: String::new(),
        scale: width / number(end_ms),
        end_ms,
        lanes_at,
        seals_at,
        bottom: seals_at + SEALS,
        rows: [f64::MIN; ROWS],
        nodes: nodes.clone(),
    };
    let (all_width, height) = (width + LEFT + 20.0, picture.bottom + 26.0);
    picture.add(&format!(
        "<div class=\"picture\"><svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all_width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {all_width:.0} {height:.0}\" role=\"img\" aria-label=\"Timeline of the run\">"
    ));
    picture.add(PATTERNS);
    picture.axis();
    for &node in &nodes {
        picture.lane(timeline, node);
    }
    picture.cuts(timeline);
    for &node in &nodes {
        picture.requests(timeline, node);
    }
    picture.seals(timeline);
    picture.faults(timeline);
    for violation in &report.violations {
        let title = format!(
            "{} {} is broken: {}",
            seconds(violation.at_ms),
            violation.checker,
            violation.what
        );
        let (x, bottom) = (picture.x(violation.at_ms), picture.bottom);
        picture.add(&format!(
            "<g><line x1=\"{x:.1}\" y1=\"14\" x2=\"{x:.1}\" y2=\"{bottom:.0}\" stroke=\"#c1121f\" stroke-width=\"2.5\"/>\
             <path d=\"M{x:.1} 4l6 10h-12z\" fill=\"#c1121f\"/>{}</g>",
            titled(&title)
        ));
    }
    picture.add("</svg></div>");
    picture.out
}

const PATTERNS: &str = "<defs><pattern id=\"paused\" width=\"6\" height=\"6\" patternTransform=\"rotate(45)\" \
    patternUnits=\"userSpaceOnUse\"><rect width=\"3\" height=\"6\" fill=\"#cc79a7\"/></pattern></defs>";

struct Picture {
    out: String,
    /// Pixels a millisecond.
    scale: f64,
    end_ms: u64,
    lanes_at: f64,
    seals_at: f64,
    bottom: f64,
    /// How far each row of labels is taken.
    rows: [f64; ROWS],
    /// Who has a lane, from above.
    nodes: Vec<u64>,
}

#[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
fn number(n: u64) -> f64 {
    n as f64
}

fn titled(text: &str) -> String {
    format!("<title>{}</title>", escaped(text))
}

impl Picture {
    fn add(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn x(&self, ms: u64) -> f64 {
        LEFT + number(ms.min(self.end_ms)) * self.scale
    }

    fn lane_y(&self, node: u64) -> f64 {
        let place = self.nodes.iter().position(|lane| *lane == node).unwrap_or(0);
        self.lanes_at + number(place as u64) * (LANE + GAP)
    }

    fn bar(&mut self, from_ms: u64, to_ms: u64, y: f64, height: f64, fill: &str, title: &str) {
        let x = self.x(from_ms);
        let width = (self.x(to_ms) - x).max(1.0);
        let title = if title.is_empty() {
            String::new()
        } else {
            titled(title)
        };
        self.add(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\">{title}</rect>"
        ));
    }

    fn axis(&mut self) {
        let second = self.scale * 1_000.0;
        let step = [1, 2, 5, 10, 30, 60]
            .into_iter()
            .find(|step| number(*step) * second >= 44.0)
            .unwrap_or(300);
        let bottom = self.bottom;
        let mut at = 0;
        while at * 1_000 <= self.end_ms {
            let x = self.x(at * 1_000);
            self.add(&format!(
                "<line x1=\"{x:.1}\" y1=\"22\" x2=\"{x:.1}\" y2=\"{bottom:.0}\" stroke=\"#e3e6eb\"/>\
                 <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\" fill=\"#59616b\">{at} s</text>",
                bottom + 16.0
            ));
            at += step;
        }
        self.add("<text x=\"8\" y=\"46\" font-weight=\"600\">faults</text>");
    }

    /// What a node is, over time, and its disk's trouble.
    fn lane(&mut self, timeline: &Timeline, node: u64) {
        let y = self.lane_y(node);
        self.add(&format!(
            "<text x=\"8\" y=\"{:.0}\" font-size=\"15\" font-weight=\"600\">n{node}</text>\
             <text x=\"8\" y=\"{:.0}\" fill=\"#59616b\">requests</text>",
            y + 16.0,
            y + 40.0
        ));
        self.bar(0, self.end_ms, y, 22.0, "#eef0f3", "");
        let mut now: Option<(u64, Role, u64)> = None;
        let mut down: Option<(u64, String)> = Some((0, "not started yet".into()));
        let mut chain: Option<(u64, bool, String)> = None;
        let mut marks = Vec::new();
        let mut pauses = Vec::new();
        for event in timeline.of(node) {
            let at = event.at_ms;
            match &event.what {
                What::Up => {
                    if let Some((since, why)) = down.take() {
                        self.down(since, at, y, node, &why);
                    }
                }
                What::Down | What::Stopped(_) => {
                    self.role(now.take(), at, y, node);
                    self.chain(chain.take(), at, y);
                    down = Some((
                        at,
                        match &event.what {
                            What::Stopped(why) => format!("it stopped by itself: {}", shortened(why, 300)),
                            _ => "killed, or without power".into(),
                        },
                    ));
                    if let (What::Stopped(_), Some((_, why))) = (&event.what, &down) {
                        marks.push((at, "#c1121f", format!("{} n{node}: {why}", seconds(at))));
                    }
                }
                What::Role { role, term } => {
                    self.role(now.take(), at, y, node);
                    now = Some((at, *role, *term));
                }
                What::Certified(index, head) => {
                    self.chain(chain.take(), at, y);
                    chain = Some((at, index == head, format!("block {index} of {head} certified")));
                }
                What::Paused(until) => {
                    let title = format!("{} n{node} does nothing until {}", seconds(at), seconds(*until));
                    pauses.push((at, *until, title));
                }
                What::Sync { ms, failed } => {
                    let (colour, what) = match failed {
                        true => ("#c1121f", "a sync fails".to_owned()),
                        false => ("#e69f00", format!("a sync takes {ms} ms")),
                    };
                    marks.push((at, colour, format!("{} n{node}: {what}", seconds(at))));
                }
                What::Alarm(why) => {
                    marks.push((
                        at,
                        "#c1121f",
                        format!("{} n{node} raises an alarm: {why}", seconds(at)),
                    ));
                }
                _ => {}
            }
        }
        let end = self.end_ms;
        self.role(now, end, y, node);
        self.chain(chain, end, y);
        if let Some((since, why)) = down {
            self.down(since, end, y, node, &why);
        }
        for (at, until, title) in pauses {
            self.bar(at, until, y, 22.0, "url(#paused)", &title);
        }
        for (at, colour, title) in marks {
            let x = self.x(at);
            self.add(&format!(
                "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"3.2\" fill=\"{colour}\" stroke=\"#fff\">{}</circle>",
                y + 26.5,
                titled(&title)
            ));
        }
    }

    fn role(&mut self, now: Option<(u64, Role, u64)>, until: u64, y: f64, node: u64) {
        let Some((since, role, term)) = now else { return };
        let (colour, what) = match role {
            Role::Leads => ("#0072b2", "leads"),
            Role::Follows => ("#bcd9ee", "follows"),
            Role::Seeks => ("#f6d58a", "knows no leader"),
        };
        let title = format!(
            "n{node} {what} in term {term}, {} to {}",
            seconds(since),
            seconds(until)
        );
        self.bar(since, until, y, 22.0, colour, &title);
        let width = self.x(until) - self.x(since);
        if role == Role::Leads && width > 62.0 {
            let x = self.x(since) + 5.0;
            self.add(&format!(
                "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"#fff\" pointer-events=\"none\">leads, term {term}</text>",
                y + 15.0
            ));
        }
    }

    fn down(&mut self, since: u64, until: u64, y: f64, node: u64, why: &str) {
        if until > since {
            let title = format!("n{node} is down, {} to {}: {why}", seconds(since), seconds(until));
            self.bar(since, until, y, 22.0, "#3b424b", &title);
        }
    }

    fn chain(&mut self, chain: Option<(u64, bool, String)>, until: u64, y: f64) {
        if let Some((since, whole, title)) = chain {
            let colour = if whole { "#009e73" } else { "#e69f00" };
            self.bar(since, until, y + LANE - 6.0, 4.0, colour, &title);
        }
    }

    /// What was asked of a node: a line as long as the client waited, in the colour of how it ended.
    fn requests(&mut self, timeline: &Timeline, node: u64) {
        let y = self.lane_y(node) + 32.0;
        for event in &timeline.events {
            let What::Attempt(attempt) = &event.what else {
                continue;
            };
            if attempt.node != node {
                continue;
            }
            let Attempt {
                key,
                action,
                asked_ms,
                heard,
                ..
            } = attempt;
            let (colour, row, what) = match heard {
                Heard::Done => ("#009e73", 0.0, "done".to_owned()),
                Heard::Refused(status, code) => ("#8a8f98", 5.0, format!("refused, {status} {code}")),
                Heard::Unsure(status) => ("#d55e00", 10.0, format!("unknown, {status}")),
                Heard::Silence => ("#d55e00", 10.0, "unknown, no answer".to_owned()),
            };
            let title = format!(
                "{key} {action}, asked {}, {what} at {}",
                seconds(*asked_ms),
                seconds(event.at_ms)
            );
            self.bar(*asked_ms, event.at_ms, y + row, 4.0, colour, &title);
        }
    }

    /// Cuts lie over those they cut off, from the cut to the heal.
    fn cuts(&mut self, timeline: &Timeline) {
        let everyone = self.nodes.clone();
        let mut open: Vec<(u64, Vec<u64>, String)> = Vec::new();
        let mut closed = Vec::new();
        for event in &timeline.events {
            let at = event.at_ms;
            let (nodes, what) = match &event.what {
                What::Fault(Fault::Heal) | What::Quiet => {
                    closed.extend(open.drain(..).map(|cut| (cut, at)));
                    continue;
                }
                What::Aimed(leader) => (vec![*leader], format!("the leader, n{leader}, is cut off")),
                What::Fault(fault) => match fault {
                    Fault::Partition(side) => (side.iter().copied().collect(), fault.to_string()),
                    Fault::OneWay(a, b) | Fault::Cut(a, b) => (vec![*a, *b], fault.to_string()),
                    Fault::Ring | Fault::Bridge(_) => (everyone.clone(), fault.to_string()),
                    _ => continue,
                },
                _ => continue,
            };
            open.push((at, nodes, what));
        }
        let end = self.end_ms;
        closed.extend(open.into_iter().map(|cut| (cut, end)));
        for ((since, nodes, what), until) in closed {
            let title = format!("{what}, {} to {}", seconds(since), seconds(until));
            let (x, width) = (self.x(since), (self.x(until) - self.x(since)).max(1.0));
            for node in nodes {
                let y = self.lane_y(node) - 3.0;
                self.add(&format!(
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{LANE:.1}\" fill=\"#8e44ad\" \
                     fill-opacity=\"0.16\" stroke=\"#8e44ad\" stroke-opacity=\"0.55\">{}</rect>",
                    titled(&title)
                ));
            }
        }
    }

    /// Seals that clients heard of: one tick each, higher for later versions.
    fn seals(&mut self, timeline: &Timeline) {
        let y = self.seals_at;
        self.add(&format!(
            "<text x=\"8\" y=\"{:.0}\" font-weight=\"600\">seals</text>",
            y + 20.0
        ));
        for event in &timeline.events {
            if let (What::Sealed(asset, epoch, version), Who::Clients) = (&event.what, event.who) {
                let x = self.x(event.at_ms);
                let height = 10.0 + 8.0 * number((*version).min(3));
                let title = format!(
                    "{} {asset} of epoch {epoch} sealed, version {version}",
                    seconds(event.at_ms)
                );
                self.add(&format!(
                    "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"1.6\" height=\"{height:.1}\" fill=\"#56b4e9\">{}</rect>",
                    y + SEALS - 4.0 - height,
                    titled(&title)
                ));
            }
        }
    }

    /// Faults by name, each in a row that is free there.
    fn faults(&mut self, timeline: &Timeline) {
        let (mut before, mut quiet) = (None, false);
        let lanes_at = self.lanes_at;
        for event in &timeline.events {
            let (text, title) = match &event.what {
                // What makes everything well at the end is told once.
                What::Fault(_) if quiet => continue,
                What::Quiet => {
                    quiet = true;
                    (
                        "all faults are over".to_owned(),
                        "no fault strikes from here on".to_owned(),
                    )
                }
                What::Fault(fault) if before.as_ref() == Some(&(event.at_ms, fault.clone())) => continue,
                What::Fault(fault) => {
                    before = Some((event.at_ms, fault.clone()));
                    let node = of(fault).map(|node| format!(" n{node}")).unwrap_or_default();
                    (format!("{}{node}", label(fault)), fault.to_string())
                }
                _ => continue,
            };
            let x = self.x(event.at_ms);
            // About six pixels a letter.
            let width = 6.0 * number(text.chars().count() as u64) + 10.0;
            // What undoes something needs no label: the picture shows it.
            let undoes = matches!(&event.what, What::Fault(fault) if undoes(fault));
            let row = (0..ROWS).find(|row| self.rows[*row] < x).filter(|_| !undoes);
            let title = titled(&format!("{} {title}", seconds(event.at_ms)));
            let y = 36.0 + ROW * number(row.unwrap_or(ROWS - 1) as u64);
            let mut drawn = format!(
                "<g><line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x:.1}\" y2=\"{lanes_at:.1}\" stroke=\"#9aa1ab\"/>\
                 <circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"2.6\" fill=\"#3b424b\"/>",
                y - 4.0
            );
            // Where all rows are taken, the dot and its title must do.
            if let Some(row) = row {
                self.rows[row] = x + width;
                let _ = write!(
                    drawn,
                    "<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"#1b1f24\">{}</text>",
                    x + 5.0,
                    escaped(&text)
                );
            }
            self.add(&format!("{drawn}{title}</g>"));
        }
    }
}

/// Whether a fault only ends another.
fn undoes(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Heal
            | Fault::Start(_)
            | Fault::SlowDisk(_, false)
            | Fault::FullDisk(_, false)
            | Fault::SlowNode(_, false)
            | Fault::NewerBuild(_, false)
            | Fault::Link(.., crate::faults::Way::Good)
    )
}

/// Whose fault it is, where the label does not say.
fn of(fault: &Fault) -> Option<u64> {
    match fault {
        Fault::Crash { node, .. }
        | Fault::Start(node)
        | Fault::Pause(node, _)
        | Fault::FailSync(node)
        | Fault::FailFileSync(node)
        | Fault::SlowDisk(node, _)
        | Fault::Clock(node, _)
        | Fault::Bridge(node)
        | Fault::SlowNode(node, _)
        | Fault::FullDisk(node, _)
        | Fault::Rot(node)
        | Fault::Latent(node)
        | Fault::Misdirect(node)
        | Fault::DamageArchive(node)
        | Fault::EmptyDisk(node)
        | Fault::Restart(node)
        | Fault::NewerBuild(node, _)
        | Fault::Join(node)
        | Fault::Promote(node)
        | Fault::Remove(node)
        | Fault::RotateKey(node)
        | Fault::Transfer(node)
        | Fault::Snapshot(node)
        | Fault::WrongDisk(node, _) => Some(*node),
        _ => None,
    }
}
