//! Connections and HTTP requests of each listener.

use http::StatusCode;

use super::Watch;
use super::counter::{Counter, Counters, Level};
use super::histogram::{Durations, durations};
use crate::listener::Name;

/// The classes of HTTP's status codes.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The numbers of one listener.
#[derive(Debug)]
pub struct Door {
    /// Its name.
    pub name: &'static str,
    /// Connections that there are, from the first byte on.
    pub open: Level,
    /// Connections that were let in.
    pub accepted: Counter,
    /// Connections that found no room.
    pub refused: Counter,
    /// Handshakes that came to nothing.
    pub unsecured: Counter,
    /// How long handshakes took that were completed.
    pub handshakes: Durations,
    /// Requests.
    pub requests: Counter,
    /// Answers of HTTP, by class. Those of gRPC are counted by method.
    pub answers: Counters<{ CLASSES.len() }>,
    /// How long those took, until their heads.
    pub took: Durations,
}

impl Door {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            open: Level::new(),
            accepted: Counter::new(),
            refused: Counter::new(),
            unsecured: Counter::new(),
            handshakes: durations(),
            requests: Counter::new(),
            answers: Counters::new(),
            took: durations(),
        }
    }

    /// A request was answered.
    pub fn answered(&self, watch: Watch, status: StatusCode) {
        if let Some(class) = usize::from(status.as_u16() / 100).checked_sub(1) {
            self.answers.one(class);
        }
        watch.stop(&self.took);
    }
}

/// gRPC.
static GRPC: Door = Door::new("grpc");
/// Issuer, connect pages, logs.
pub static PUBLIC: Door = Door::new("public");
/// The gateway to provider APIs.
pub static GATEWAY: Door = Door::new("gateway");

/// All of them.
pub static ALL: [&Door; 3] = [&GRPC, &PUBLIC, &GATEWAY];

/// The numbers of a listener.
#[must_use]
pub fn of(name: Name) -> &'static Door {
    match name {
        Name::Grpc => &GRPC,
        Name::Public => &PUBLIC,
        Name::Gateway => &GATEWAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_class() {
        crate::metrics::switch_on();
        static DOOR: Door = Door::new("test");
        for status in [100, 200, 204, 302, 404, 451, 499, 503, 599, 600, 999] {
            let status = StatusCode::from_u16(status).unwrap();
            DOOR.answered(Watch::start(), status);
        }
        assert_eq!(DOOR.answers.values(), [1, 2, 1, 3, 2]);
        assert_eq!(DOOR.took.read().count, 11);
    }
}
