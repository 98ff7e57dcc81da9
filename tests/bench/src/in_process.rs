//! The hot path in this process, without TLS and gRPC: the enclave on a lab's own state decides, mints, and gives out
//! what is durable. What is counted lies in functions of their own, whose names begin with `measured`.

use std::hint::black_box;
use std::path::Path;

use anyhow::Context;
use dev::fill::{Amount, Opened};
use dev::names;
use enclave::authenticate::{Credentials, Peer};
use enclave::issue::{Binding, Door, IssueRequest, Issued, PATH};
use enclave::nonce::Role;
use enclave::pending::{Durable, Pending};
use enclave::time::Now;
use jose::dpop::{ProofParams, random_jti};
use jose::{Alg, SigningKey};
use ring::rand::SystemRandom;

use crate::caller::Ask;
use crate::issuer::InProcess;

/// Requests before those that are counted: what is cached is cached then.
pub(crate) const WARM_UP: u32 = 20;

/// An enclave with one grant, and a client with its key.
pub(crate) struct World {
    opened: Opened,
    spki_sha256: [u8; 32],
    resource: String,
    htu: String,
    key: SigningKey,
    rng: SystemRandom,
}

impl World {
    /// Deposits the one grant.
    ///
    /// # Errors
    /// The lab can't be filled.
    pub(crate) async fn fill(dir: &Path) -> anyhow::Result<()> {
        let amount = Amount {
            grants: 1,
            tenants: 1,
            token_bytes: 100,
            policies: false,
        };
        Box::pin(dev::fill::fill(dir, amount)).await?;
        Ok(())
    }

    /// Opens a lab that was filled.
    ///
    /// # Errors
    /// It can't be opened.
    pub(crate) async fn open(dir: &Path) -> anyhow::Result<Self> {
        let opened = Box::pin(dev::fill::open(dir)).await?;
        let rng = SystemRandom::new();
        let key = SigningKey::from_pkcs8(&SigningKey::generate(Alg::Es256, &rng)?, &rng)?;
        let config = opened.shell.enclave.config();
        let target = names::TARGET;
        Ok(Self {
            spki_sha256: opened.files.client_spki_sha256()?,
            resource: format!("{}/g/grant-0000000/{target}", config.gateway_origin),
            htu: format!("{}{PATH}", config.grpc_origin),
            key,
            rng,
            opened,
        })
    }

    fn now(&self) -> Now {
        self.opened.shell.clock.now()
    }

    fn proof(&self) -> anyhow::Result<String> {
        let now = self.now();
        let nonce = self.opened.shell.enclave.dpop_nonce(Role::Token, &now);
        let params = ProofParams {
            htm: "POST",
            htu: &self.htu,
            iat_s: now.lo_s,
            jti: &random_jti(&self.rng)?,
            nonce: Some(&nonce),
            access_token: None,
        };
        params.sign(&self.key, &self.rng).context("no proof")
    }

    fn request<'a>(&'a self, proof: &'a str) -> IssueRequest<'a> {
        IssueRequest {
            door: Door::Grpc,
            credentials: Credentials {
                peer: Peer {
                    spki_sha256: Some(self.spki_sha256),
                    ..Peer::default()
                },
                ..Credentials::default()
            },
            binding: Binding::Proof(vec![proof.as_bytes()]),
            grant: Some("grant-0000000"),
            resource: &self.resource,
            scopes: &[],
            actors: &[],
        }
    }

    /// Issues one token by a fresh proof, made outside of what is counted.
    ///
    /// # Errors
    /// It is refused.
    pub(crate) async fn issue(&self) -> anyhow::Result<()> {
        let proof = self.proof()?;
        let request = self.request(&proof);
        let now = self.now();
        let pending = self.measured_issue(black_box(&request), &now)?;
        // The store writes on a thread of its own.
        let durable = pending.commit(&*self.opened.shell.store).await?;
        let issued = self.measured_release(durable, &now)?;
        anyhow::ensure!(issued.token_type == "DPoP", "not bound to the key");
        Ok(())
    }

    #[inline(never)]
    fn measured_issue(
        &self,
        request: &IssueRequest<'_>,
        now: &Now,
    ) -> anyhow::Result<Pending<Issued>> {
        Ok(self.opened.shell.enclave.issue(request, now)?)
    }

    #[inline(never)]
    fn measured_release(&self, durable: Durable<Issued>, now: &Now) -> anyhow::Result<Issued> {
        Ok(self.opened.shell.enclave.release(durable, now)?)
    }
}

#[inline(never)]
fn measured_bare(bare: &InProcess, number: u32) -> anyhow::Result<()> {
    bare.once(Ask::Dpop, number)
}

/// Issues tokens from a lab, or as the bare issuer does without one.
///
/// # Errors
/// One is refused.
pub(crate) async fn run(lab: Option<&Path>, tokens: u32) -> anyhow::Result<()> {
    match lab {
        Some(dir) => {
            let world = World::open(dir).await?;
            for _ in 0..tokens {
                world.issue().await?;
            }
            world.opened.shell.store.close();
        }
        None => {
            let bare = InProcess::new()?;
            for number in 0..tokens {
                measured_bare(&bare, number)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Lab, Terms};

    /// What a request for a token allocates, at most: what is decided, minted and sealed. A change that allocates more
    /// is to be made on purpose.
    const MOST_ALLOCATIONS: u64 = 48;
    const MOST_BYTES: u64 = 8 * 1024;

    #[tokio::test]
    async fn a_token_takes_few_allocations() {
        let lab = Lab::new(Terms::default()).unwrap();
        World::fill(lab.files().dir()).await.unwrap();
        let world = World::open(lab.files().dir()).await.unwrap();
        for _ in 0..WARM_UP {
            world.issue().await.unwrap();
        }
        let proof = world.proof().unwrap();
        let request = world.request(&proof);
        let now = world.now();
        let mut pending = None;
        let used = allocation_counter::measure(|| {
            pending = world.measured_issue(&request, &now).ok();
        });
        assert!(pending.is_some());
        println!("{used:?}");
        // A count of nothing would say that nothing is counted.
        assert!(
            (10..=MOST_ALLOCATIONS).contains(&used.count_total) && used.bytes_total <= MOST_BYTES,
            "{used:?}"
        );
    }
}
