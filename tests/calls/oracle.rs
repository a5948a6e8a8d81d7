//! What must hold whatever the network does. Both ends tell it what they see; it says what is wrong.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use ringway_call::{Code, Status};

use crate::plan::Plan;

/// One try of a call.
pub(crate) type Try = (u32, u8);

/// How a try ended at the client.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The client gave it up.
    Cancelled,
    /// With a status, and so many messages.
    Status(Status, u32),
    /// Its connection broke.
    Cut { not_started: bool },
}

#[derive(Debug, Default)]
struct Record {
    opened: bool,
    end: Option<End>,
    /// How often its handler began, and how it ended the call.
    ran: u32,
    done: Option<Code>,
    /// Messages that the server has got, and has sent.
    got: u32,
    answered: u32,
}

#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) seed: u64,
    pub(crate) print: bool,
    records: BTreeMap<Try, Record>,
    pub(crate) broken_rules: Vec<String>,
    hash: u64,
}

pub(crate) type SharedOracle = Rc<RefCell<Oracle>>;

impl Oracle {
    pub(crate) fn new(seed: u64, print: bool) -> SharedOracle {
        Rc::new(RefCell::new(Self {
            seed,
            print,
            records: BTreeMap::new(),
            broken_rules: Vec::new(),
            hash: 0xCBF2_9CE4_8422_2325,
        }))
    }

    /// Something happened: part of the run's fingerprint.
    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let text = what.to_string();
        if self.print {
            println!("{text}");
        }
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    #[track_caller]
    pub(crate) fn rule(&mut self, holds: bool, rule: impl FnOnce() -> String) {
        if !holds {
            let rule = format!("{} ({})", rule(), std::panic::Location::caller());
            if self.print {
                println!("BROKEN: {rule}");
            }
            self.broken_rules.push(rule);
        }
    }

    pub(crate) fn opened(&mut self, call: Try) {
        self.note(format_args!("{call:?} opened"));
        let record = self.records.entry(call).or_default();
        let again = std::mem::replace(&mut record.opened, true);
        self.rule(!again, || format!("{call:?} was opened twice"));
    }

    pub(crate) fn ended(&mut self, call: Try, end: End) {
        self.note(format_args!("{call:?} ended {end:?}"));
        let record = self.records.entry(call).or_default();
        let before = record.end.replace(end);
        self.rule(before.is_none(), || {
            format!("{call:?} ended again, first {before:?}")
        });
    }

    pub(crate) fn ran(&mut self, call: Try) {
        self.note(format_args!("{call:?} runs"));
        self.records.entry(call).or_default().ran += 1;
        let tries = self.records.range((call.0, 0)..=(call.0, u8::MAX));
        let ran: u32 = tries.map(|(_, record)| record.ran).sum();
        let once = self.records[&call].ran == 1;
        let idempotent = Plan::of(self.seed, call.0).idempotent;
        self.rule(once && (idempotent || ran == 1), || {
            format!("{call:?} ran {ran} times")
        });
    }

    pub(crate) fn got(&mut self, call: Try, index: u32) {
        let record = self.records.entry(call).or_default();
        let expected = record.got;
        record.got += 1;
        self.rule(index == expected, || {
            format!("{call:?}: the server got message {index} instead of {expected}")
        });
    }

    pub(crate) fn answered(&mut self, call: Try) {
        self.records.entry(call).or_default().answered += 1;
    }

    pub(crate) fn done(&mut self, call: Try, code: Code) {
        self.note(format_args!("{call:?} done {code}"));
        self.records.entry(call).or_default().done = Some(code);
    }

    /// The run is over.
    pub(crate) fn check(&mut self) -> Figures {
        let mut figures = Figures::default();
        let records = std::mem::take(&mut self.records);
        for (call, record) in &records {
            let plan = Plan::of(self.seed, call.0);
            figures.count(record, &plan);
            if plan.one_way || !record.opened {
                self.rule(plan.one_way, || {
                    format!("{call:?} ran and was never opened")
                });
                continue;
            }
            let Some(end) = &record.end else {
                self.rule(false, || format!("{call:?} never ended: {record:?}"));
                continue;
            };
            let not_started = match end {
                End::Cancelled => false,
                End::Cut { not_started } => *not_started,
                End::Status(status, _) => status.not_started,
            };
            self.rule(!not_started || record.ran == 0, || {
                format!("{call:?} is said not to have started and ran: {record:?}")
            });
            if let End::Status(status, answers) = end
                && status.is_ok()
            {
                let whole = record.done == Some(Code::Ok)
                    && *answers == plan.answers
                    && record.answered == plan.answers
                    && (record.got == plan.requests);
                self.rule(whole, || {
                    format!("{call:?} is OK and not whole: {record:?} {plan:?}")
                });
            }
        }
        figures
    }
}

/// What happened in a run, or in many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures(pub(crate) [u64; 12]);

pub(crate) const FIGURES: [&str; 12] = [
    "ok",
    "ok streams",
    "ok large",
    "cancelled",
    "deadlines",
    "failed",
    "exhausted",
    "cut",
    "cut and not started",
    "refused and not started",
    "retried",
    "one-way runs",
];

impl Figures {
    fn count(&mut self, record: &Record, plan: &Plan) {
        let status = match &record.end {
            Some(End::Status(status, _)) => Some(status),
            _ => None,
        };
        let code = status.map(|it| it.code);
        let is_ok = code == Some(Code::Ok);
        let cut = matches!(record.end, Some(End::Cut { .. }));
        let not_started = matches!(record.end, Some(End::Cut { not_started: true }));
        let events = [
            is_ok,
            is_ok && plan.kind != ringway_call::Kind::Unary,
            is_ok && plan.request_bytes.max(plan.answer_bytes) > 70_000,
            matches!(record.end, Some(End::Cancelled)),
            code == Some(Code::DeadlineExceeded),
            code == Some(Code::Aborted),
            code == Some(Code::ResourceExhausted),
            cut,
            not_started,
            status.is_some_and(|it| it.not_started),
            false,
            plan.one_way && record.ran > 0,
        ];
        for (figure, happened) in self.0.iter_mut().zip(events) {
            *figure += u64::from(happened);
        }
    }
}
