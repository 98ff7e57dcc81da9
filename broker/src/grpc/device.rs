//! Asks a provider whether a device's owner consented, until that is over, on a task of its own.

use std::time::Duration;

use enclave::admin::{AdminError, Administrator, GrantView};
use enclave::connect::{DeviceConnect, DeviceShown, DeviceStep};
use enclave::registry::Grant;
use enclave::time::Now;
use proto::v1;
use tokio::sync::watch;

use super::connecting::Connecting;
use crate::events;
use crate::grpc::administrator::refuse;
use crate::status::Refusal;

/// What came of a question.
enum Asked {
    /// The owner did not consent yet.
    Later(DeviceConnect),
    /// It is over.
    Over(Result<GrantView, Refusal>),
}

impl Connecting {
    /// Asks the provider for a code, and goes on asking whether the owner consented.
    pub(super) async fn begin_device(
        self,
        by: &Administrator,
        grant: Grant,
    ) -> Result<v1::BeginDeviceConnectResponse, Refusal> {
        let shell = &self.shell;
        let now = || shell.clock.now();
        let begun = shell.enclave.begin_device(by, grant, &now());
        let (mut device, request) = begun.map_err(refuse)?;
        if !shell.consents.has_room(by, now().mono_ms) {
            return Err(refuse(AdminError::Busy));
        }
        let answer = self.refresher.send(request).await;
        let step = shell.enclave.device_answered(&mut device, answer, &now());
        let DeviceStep::Show(shown) = step.map_err(refuse)? else {
            return Err(Refusal::internal());
        };
        let handle = shell.enclave.random_text();
        let handle = handle.map_err(|error| refuse(error.into()))?;
        let DeviceShown {
            user_code,
            verification_uri,
            verification_uri_complete,
            expires_in_s,
        } = shown;
        let (over, outcome) = watch::channel(None);
        // A little longer than the code: what came of it is to be told.
        let kept_s = expires_in_s.saturating_add(60);
        let until_ms = now().mono_ms.saturating_add(kept_s.saturating_mul(1_000));
        shell.consents.keep(&handle, by, until_ms, outcome);
        // The service does not wait for it when it stops: no token is under way between two questions.
        let asking = self.clone();
        tokio::spawn(async move {
            let outcome = asking.ask_on(device).await;
            over.send_replace(Some(outcome));
        });
        Ok(v1::BeginDeviceConnectResponse {
            handle,
            user_code,
            verification_uri,
            verification_uri_complete: verification_uri_complete.unwrap_or_default(),
            expires_in_s: u32::try_from(expires_in_s).unwrap_or(u32::MAX),
        })
    }

    async fn ask_on(self, mut device: DeviceConnect) -> Result<GrantView, Refusal> {
        loop {
            tokio::time::sleep(Duration::from_millis(device.pause_ms())).await;
            if self.shell.afterwards.is_closed() {
                return Err(Refusal::internal());
            }
            // The code is spent with the answer that has the tokens: a stop of the service waits for it.
            let asked = self.clone().ask(device);
            let asked = self.shell.afterwards.spawn(asked).await;
            match asked.map_err(|_torn_down| Refusal::internal())? {
                Asked::Later(again) => device = again,
                Asked::Over(outcome) => return outcome,
            }
        }
    }

    async fn ask(self, mut device: DeviceConnect) -> Asked {
        let enclave = &self.shell.enclave;
        let now = || self.shell.clock.now();
        let mut request = match enclave.poll_device(&device, &now()) {
            Ok(request) => request,
            Err(error) => return Asked::Over(Err(refuse(error))),
        };
        loop {
            let answer = self.refresher.send(request).await;
            match enclave.device_answered(&mut device, answer, &now()) {
                Ok(DeviceStep::Send(again)) => request = *again,
                Ok(DeviceStep::Pause | DeviceStep::Show(_)) => return Asked::Later(device),
                Ok(DeviceStep::Keep) => break,
                Err(error) => return Asked::Over(Err(refuse(error))),
            }
        }
        let kept = self
            .keep(|now: &Now| enclave.keep_device(&device, now))
            .await;
        if let Ok(view) = &kept {
            events::grant_deposited(&view.grant, &device.by().name);
        }
        Asked::Over(kept)
    }
}
