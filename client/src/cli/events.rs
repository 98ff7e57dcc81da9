//! `events`: what a tenant must hear of, as it comes.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use proto::v1;
use serde_json::{Value, json};
use tokenkeep::AttestedChannel;
use tokenkeep::rpc_error::{RpcError, answer};

use super::exit::manual;
use super::failure::Failure;
use super::members::members;
use super::output::Output;

/// The first and the longest wait before a stream that broke is taken up again.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(16));

/// A stream that breaks as often without a message between is given up.
const MAX_BREAKS: u32 = 8;

/// A tenant's events
#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// Print a tenant's events as they come
    ///
    /// Each event is a leaf of the control log, and its position is what to go on from: whoever remembers the last one
    /// and gives it as --since misses nothing. A stream that breaks is taken up where it was.
    #[command(after_long_help = manual!("  tokenkeep events watch --tenant acme\n  tokenkeep events watch --tenant acme --since 4711 --kind freeze --kind loss\n  tokenkeep --json events watch --tenant acme --all --until-now | jq -c .kind"))]
    Watch(WatchArgs),
}

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Something was frozen
    Freeze,
    /// A freeze ended
    Thaw,
    /// A refresh token was lost in an exchange
    Loss,
    /// A refresh token was refused: the owner must consent again
    NeedsConsent,
    /// The tenant's policy was set or removed
    PolicyChange,
    /// A client was refused at a grant again and again
    DeniedBurst,
    /// What vouches for the service's evidence ends soon
    CollateralExpiry,
    /// A grant's review date has come
    GrantReviewDue,
    /// A grant was made, or given another refresh token
    GrantConnected,
    /// A grant was revoked or deleted
    GrantEnded,
    /// What the provider made of a revocation
    ProviderTold,
    /// A webhook was made, deleted or given up
    Webhook,
    /// A grant's terms were set anew
    GrantChange,
    /// A grant fell asleep for want of use
    GrantSlept,
    /// A grant that slept was woken
    GrantWoken,
    /// What may be done with all of the tenant's grants was set
    LimitsChange,
    /// The tenant was given another key
    KeyChange,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The tenant
    #[arg(long)]
    tenant: String,
    /// Only what follows the event at this position [default: only what is still to come]
    #[arg(long, value_name = "POSITION")]
    since: Option<u64>,
    /// All that there ever was, and what is still to come
    #[arg(long, conflicts_with = "since")]
    all: bool,
    /// Only events of this kind; repeat for more
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<Kind>,
    /// End when all that there is now was printed
    #[arg(long)]
    until_now: bool,
}

impl Kind {
    /// Its number in the contract.
    pub(super) const fn number(self) -> v1::EventKind {
        match self {
            Self::Freeze => v1::EventKind::Freeze,
            Self::Thaw => v1::EventKind::Thaw,
            Self::Loss => v1::EventKind::Loss,
            Self::NeedsConsent => v1::EventKind::NeedsConsent,
            Self::PolicyChange => v1::EventKind::PolicyChange,
            Self::DeniedBurst => v1::EventKind::DeniedBurst,
            Self::CollateralExpiry => v1::EventKind::CollateralExpiry,
            Self::GrantReviewDue => v1::EventKind::GrantReviewDue,
            Self::GrantConnected => v1::EventKind::GrantConnected,
            Self::GrantEnded => v1::EventKind::GrantEnded,
            Self::ProviderTold => v1::EventKind::ProviderTold,
            Self::Webhook => v1::EventKind::Webhook,
            Self::GrantChange => v1::EventKind::GrantChange,
            Self::GrantSlept => v1::EventKind::GrantSlept,
            Self::GrantWoken => v1::EventKind::GrantWoken,
            Self::LimitsChange => v1::EventKind::LimitsChange,
            Self::KeyChange => v1::EventKind::KeyChange,
        }
    }
}

/// The word of a kind in the contract; a number for one that this version does not know.
pub(super) fn word(number: i32) -> String {
    let known = Kind::value_variants()
        .iter()
        .find(|kind| i32::from(kind.number()) == number);
    let value = known.and_then(Kind::to_possible_value);
    value.map_or_else(
        || format!("kind {number}"),
        |value| value.get_name().to_owned(),
    )
}

pub(crate) async fn run(
    command: EventsCommand,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    match command {
        EventsCommand::Watch(args) => watch(args, channel, output).await,
    }
}

async fn watch(args: WatchArgs, channel: &AttestedChannel, output: Output) -> Result<(), Failure> {
    let WatchArgs {
        tenant,
        since,
        all,
        kinds,
        until_now,
    } = args;
    let mut request = v1::WatchRequest {
        tenant,
        from: match since {
            Some(since) => Some(since.saturating_add(1)),
            None => all.then_some(0),
        },
        kinds: kinds.iter().map(|kind| kind.number().into()).collect(),
        until_now,
    };
    let mut breaks = Breaks::default();
    loop {
        let broke = match follow(&mut request, channel, output, &mut breaks).await {
            Ok(()) => return Ok(()),
            Err(Ended::Output(failure)) => return Err(failure),
            Err(Ended::Broke(error)) => error,
        };
        // A place that is not remembered can't be taken up.
        match breaks.wait(&broke) {
            Some(wait) if request.from.is_some() => {
                output.note("the stream broke; it is taken up where it was")?;
                tokio::time::sleep(wait).await;
            }
            Some(_) | None => return Err(broke.into()),
        }
    }
}

/// Why a stream ended that should not have.
enum Ended {
    Broke(RpcError),
    Output(Failure),
}

impl From<RpcError> for Ended {
    fn from(error: RpcError) -> Self {
        Self::Broke(error)
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Output(failure)
    }
}

/// Breaks without a message between.
#[derive(Debug, Default)]
struct Breaks(u32);

impl Breaks {
    /// How long to wait before it is tried again; none if it is not to be.
    fn wait(&mut self, error: &RpcError) -> Option<Duration> {
        let again = error.is_unavailable() || error.reason() == Some("SLOW_CONSUMER");
        if !again || self.0 >= MAX_BREAKS {
            return None;
        }
        let factor = 1_u32.checked_shl(self.0).unwrap_or(u32::MAX);
        self.0 = self.0.saturating_add(1);
        let (first, longest) = WAITS;
        let wait = first.saturating_mul(factor).min(longest);
        Some(error.retry_after().unwrap_or(wait).min(longest))
    }
}

/// One stream; `request` is where to go on.
async fn follow(
    request: &mut v1::WatchRequest,
    channel: &AttestedChannel,
    output: Output,
    breaks: &mut Breaks,
) -> Result<(), Ended> {
    let mut stream = answer(channel.events().watch(request.clone()))
        .await?
        .into_inner();
    while let Some(message) = stream.message().await.map_err(RpcError::from)? {
        *breaks = Breaks::default();
        for event in &message.events {
            if !tell(event, output)? {
                return Ok(());
            }
        }
        request.from = Some(message.next);
    }
    // The service stops, or the connection is as old as it may be.
    if request.until_now {
        return Ok(());
    }
    let over = tonic::Status::unavailable("the stream ended");
    Err(RpcError::from(over).into())
}

/// One event a line. False if nobody reads any more.
fn tell(event: &v1::Event, output: Output) -> Result<bool, Failure> {
    let v1::Event {
        position,
        kind,
        at_s,
        number,
        detail,
        leaf_hash,
    } = event;
    let kind = word(*kind);
    let said = serde_json::from_str::<Value>(detail).unwrap_or(Value::Null);
    if output.is_json() {
        let hash = tlog::Hash::try_from(leaf_hash.as_slice());
        let hash = hash.map_err(|_| Failure::answer("an event's leaf hash has not 32 bytes"))?;
        let line = json!({
            "position": position,
            "kind": kind,
            "at_s": at_s,
            "number": number,
            "detail": said,
            "leaf_hash": hash.to_string(),
        });
        return output.bytes(format!("{line}\n").as_bytes());
    }
    let line = format!("{position:>8}  {at_s}  {kind:<17}  {}", members(&said));
    output.line(&line).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_word() {
        for kind in Kind::value_variants() {
            let number: i32 = kind.number().into();
            let name = kind.to_possible_value().unwrap();
            assert_eq!(word(number), name.get_name());
        }
        assert_eq!(word(v1::EventKind::DeniedBurst.into()), "denied_burst");
        assert_eq!(word(99), "kind 99");
    }

    #[test]
    fn a_stream_that_breaks_is_tried_again_for_some_time() {
        let gone = RpcError::from(tonic::Status::unavailable("gone"));
        let mut breaks = Breaks::default();
        let waits: Vec<u128> = std::iter::from_fn(|| breaks.wait(&gone))
            .map(|wait| wait.as_millis())
            .collect();
        let expected = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 16_000, 16_000];
        assert_eq!(waits, expected);
        let forbidden = RpcError::from(tonic::Status::permission_denied("no"));
        assert_eq!(Breaks::default().wait(&forbidden), None);
    }
}
