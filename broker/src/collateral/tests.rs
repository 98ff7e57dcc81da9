//! The supply against services on loopback, for platforms whose evidence comes incomplete.

use attestation::tdx::StatementError;
use attestation::{
    AttesterError, DerivedKey, Endorsements, Expected, Nonce, Outcome, Purpose, Roots,
    SealingFields, UnixTime, assess, report_data,
};
use http::StatusCode;
use testkit::endorser::Endorser;
use testkit::snp::SnpPlatform;
use testkit::tdx::{TdFields, TdxPlatform};
use url::Url;

use super::supplier::UnixClock;
use super::*;
use crate::evidence::EvidenceDesk;
use crate::host_config::{CollateralConfig, Fetch};
use crate::tls;

/// 2026-11-15.
const NOW_S: u64 = 1_794_700_800;

struct Fixed;

impl UnixClock for Fixed {
    fn unix_time_s(&self) -> u64 {
        NOW_S
    }
}

/// A platform that gives a report and nothing beside it.
enum Bare {
    Tdx(Box<TdxPlatform>),
    Snp(Box<SnpPlatform>),
}

impl attestation::Attester for Bare {
    fn platform(&self) -> Platform {
        match self {
            Self::Tdx(_) => Platform::Tdx,
            Self::Snp(_) => Platform::Snp,
        }
    }

    fn is_emulated(&self) -> bool {
        true
    }

    fn host_data(&self) -> Result<[u8; 32], AttesterError> {
        Ok([0; 32])
    }

    fn evidence(&self, report_data: &[u8; 64]) -> Result<Evidence, AttesterError> {
        Ok(match self {
            Self::Tdx(platform) => {
                let fields = TdFields {
                    report_data: *report_data,
                    ..TdFields::default()
                };
                Evidence::tdx(platform.evidence(&fields).unwrap().quote, None)
            }
            Self::Snp(platform) => {
                let fields = testkit::snp::ReportFields {
                    report_data: *report_data,
                    ..platform.fields()
                };
                let above = platform.certificates().clone();
                let endorsements = Endorsements {
                    vek: None,
                    ask: Some(above.ask),
                    ark: Some(above.ark),
                };
                Evidence::snp(platform.report(&fields).unwrap(), endorsements)
            }
        })
    }

    fn sealing_fields(&self) -> Result<SealingFields, AttesterError> {
        Err(AttesterError::NoDerivedKey)
    }

    fn derived_key(&self, _fields: &SealingFields) -> Result<DerivedKey, AttesterError> {
        Err(AttesterError::NoDerivedKey)
    }
}

impl Bare {
    fn roots(&self) -> Roots {
        match self {
            Self::Tdx(platform) => Roots::with_emulated(platform.root_pem()).unwrap(),
            Self::Snp(platform) => Roots::with_emulated(platform.root_pem()).unwrap(),
        }
    }
}

fn config(service: &Endorser, fetch: Fetch, dir: Option<&std::path::Path>) -> CollateralConfig {
    CollateralConfig {
        dir: dir.map(ToOwned::to_owned),
        fetch,
        amd_kds: Url::parse(service.url()).unwrap(),
        intel_pcs: Url::parse(service.url()).unwrap(),
        intel_root_crl: Url::parse(&service.root_crl_url()).unwrap(),
        refresh_s: 3_600,
    }
}

fn supplier(platform: &Arc<Bare>, config: CollateralConfig) -> (Supply, Supplier) {
    let attester: Arc<dyn attestation::Attester> = Arc::<Bare>::clone(platform);
    let tls = tls::client(rustls::RootCertStore::empty()).unwrap();
    Supplier::with_clock(attester, platform.roots(), config, tls, Arc::new(Fixed))
}

fn tdx() -> Arc<Bare> {
    Arc::new(Bare::Tdx(Box::new(TdxPlatform::new().unwrap())))
}

fn statements(platform: &Bare, fields: &TdFields) -> Vec<u8> {
    let Bare::Tdx(platform) = platform else {
        panic!("not TDX");
    };
    platform.evidence(fields).unwrap().collateral
}

/// What a verifier says that has roots and nothing else.
async fn outcome(platform: &Arc<Bare>, supply: Supply) -> (Vec<&'static str>, Evidence) {
    let attester: Arc<dyn attestation::Attester> = Arc::<Bare>::clone(platform);
    let bundle = [9; 32];
    let nonce: Nonce = [7; 32];
    let desk = EvidenceDesk::start(
        attester,
        move || {
            Arc::new(enclave::Bundle {
                bytes: Vec::new(),
                digest: bundle,
            })
        },
        supply,
    );
    let answer = desk.evidence(nonce, Purpose::Server).await.unwrap();
    let expected = report_data(Purpose::Server, &answer.path.root(&nonce), &bundle);
    let appraisal = assess(
        &answer.evidence,
        &platform.roots(),
        UnixTime::from_secs(NOW_S),
        None,
        &Expected::report_data(expected),
    );
    let failed = appraisal
        .checks()
        .iter()
        .filter(|check| check.outcome == Outcome::Fail)
        .map(|check| check.name.as_str())
        .collect();
    (failed, Evidence::clone(&answer.evidence))
}

#[tokio::test]
async fn evidence_that_comes_bare_goes_out_with_what_vouches_for_it() {
    let service = Endorser::start().await.unwrap();
    let tdx = tdx();
    let (supply, supplier) = supplier(&tdx, config(&service, Fetch::Always, None));
    // Before the first answer a verifier is told the truth.
    assert_eq!(outcome(&tdx, supply.clone()).await.0, ["collateral"]);
    service.put_collateral(&statements(&tdx, &TdFields::default()));
    supplier.refresh().await.unwrap();
    assert_eq!(outcome(&tdx, supply).await.0, [""; 0]);
}

#[tokio::test]
async fn a_chips_certificate_is_fetched_once_for_its_tcb_and_served() {
    let service = Endorser::start().await.unwrap();
    let platform = SnpPlatform::development([7; 32]).unwrap();
    let vek = platform.certificates().vek.clone();
    let report = platform.report(&platform.fields()).unwrap();
    let path = vcek_path(&Report::parse(&report).unwrap()).unwrap();
    let snp = Arc::new(Bare::Snp(Box::new(platform)));
    let (supply, supplier) = supplier(&snp, config(&service, Fetch::Always, None));
    service.put(&path, b"<html>not here</html>".to_vec());
    assert!(matches!(
        supplier.refresh().await,
        Err(SupplyFault::Certificate)
    ));
    assert_eq!(outcome(&snp, supply.clone()).await.0, ["vek"]);
    service.put(&path, vek.clone());
    supplier.refresh().await.unwrap();
    let asked = service.asked().len();
    supplier.refresh().await.unwrap();
    assert_eq!(
        service.asked().len(),
        asked,
        "asked again for what is final"
    );
    let (failed, evidence) = outcome(&snp, supply).await;
    assert_eq!(failed, [""; 0]);
    assert_eq!(evidence.endorsements.vek, Some(vek));
}

#[tokio::test]
async fn what_is_there_is_kept_when_a_service_fails_or_goes_back() {
    let service = Endorser::start().await.unwrap();
    let tdx = tdx();
    let (supply, supplier) = supplier(&tdx, config(&service, Fetch::Always, None));
    let good = TdFields {
        issue_day: 10,
        ..TdFields::default()
    };
    service.put_collateral(&statements(&tdx, &good));
    supplier.refresh().await.unwrap();
    let held = supply.held().unwrap().bytes;

    service.fail(Some(StatusCode::TOO_MANY_REQUESTS));
    let fault = supplier.refresh().await.unwrap_err();
    assert!(matches!(fault, SupplyFault::Status { status: 429, .. }));
    service.fail(None);

    let older = TdFields {
        evaluation_number: 19,
        ..good.clone()
    };
    service.put_collateral(&statements(&tdx, &older));
    let fault = supplier.refresh().await.unwrap_err();
    assert!(matches!(
        fault,
        SupplyFault::Statements(StatementError::Older { .. })
    ));
    let others = Arc::new(Bare::Tdx(Box::new(TdxPlatform::new().unwrap())));
    service.put_collateral(&statements(&others, &good));
    let fault = supplier.refresh().await.unwrap_err();
    assert!(matches!(
        fault,
        SupplyFault::Statements(StatementError::Signature { .. })
    ));
    let path = "/tdx/certification/v4/qe/identity?update=standard";
    service.put(path, vec![b' '; 200_000]);
    let fault = supplier.refresh().await.unwrap_err();
    assert!(matches!(fault, SupplyFault::NoAnswer { .. }), "{fault}");
    assert_eq!(supply.held().unwrap().bytes, held);

    let newer = TdFields {
        evaluation_number: 21,
        ..good
    };
    service.put_collateral(&statements(&tdx, &newer));
    supplier.refresh().await.unwrap();
    assert_ne!(supply.held().unwrap().bytes, held);
}

#[tokio::test]
async fn what_was_carried_into_the_folder_is_served_without_a_network() {
    let service = Endorser::start().await.unwrap();
    let tdx = tdx();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("intel-00806f050000-platform.json");
    let config = |fetch| config(&service, fetch, Some(dir.path()));
    let (supply, offline) = supplier(&tdx, config(Fetch::Never));
    offline.refresh().await.unwrap();
    assert!(supply.held().is_none());
    std::fs::write(&file, statements(&tdx, &TdFields::default())).unwrap();
    offline.refresh().await.unwrap();
    assert_eq!(outcome(&tdx, supply).await.0, [""; 0]);
    // Rubbish in the folder is a fault, and what is there stays.
    std::fs::write(&file, "{}").unwrap();
    let said = offline.refresh().await.unwrap_err().to_string();
    assert_eq!(said, "the collateral is not of the form of Intel's");
    assert_eq!(service.asked(), [""; 0]);

    // What is fetched is there after a restart.
    service.put_collateral(&statements(&tdx, &TdFields::default()));
    let (_, online) = supplier(&tdx, config(Fetch::Always));
    online.refresh().await.unwrap();
    let (supply, restarted) = supplier(&tdx, config(Fetch::Never));
    restarted.refresh().await.unwrap();
    assert!(supply.held().is_some());
    // An emulated enclave asks nobody unless it is told to.
    let asked = service.asked().len();
    let (_, default) = supplier(&tdx, config(Fetch::OnHardware));
    default.refresh().await.unwrap();
    assert_eq!(service.asked().len(), asked);
}
