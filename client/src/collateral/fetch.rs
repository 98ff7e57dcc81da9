//! What AMD and Intel are asked for.

use attestation::snp::{Line, crl_path};
use attestation::tdx::{Answer, Answers, PlatformModel, Statement};

use super::CollateralError;
use super::ask::{get, host_of};

/// Asks AMD's key distribution service, or a mirror of it, for the revocation list of a line. Nothing is verified yet.
///
/// # Errors
/// [`CollateralError`], by what went wrong on the way.
pub async fn fetch(endpoint: &str, line: Line) -> Result<Vec<u8>, CollateralError> {
    Ok(get(endpoint, &crl_path(line)).await?.body)
}

/// Asks Intel's provisioning certification service, or a mirror or caching service, for what it states about a model
/// of platforms, and `root_crl`, a whole URL, for the root's revocation list. Yields collateral, JSON. Nothing is
/// verified yet.
///
/// # Errors
/// [`CollateralError`], by what went wrong on the way.
pub async fn fetch_statements(
    endpoint: &str,
    root_crl: &str,
    model: &PlatformModel,
) -> Result<Vec<u8>, CollateralError> {
    let answers = Answers {
        tcb_info: about(endpoint, Statement::TcbInfo, model).await?,
        qe_identity: about(endpoint, Statement::QeIdentity, model).await?,
        pck_crl: about(endpoint, Statement::PckCrl, model).await?,
        root_crl: get(root_crl, "").await?.body,
    };
    answers
        .collateral()
        .map_err(|source| CollateralError::Answer {
            host: host_of(endpoint),
            source,
        })
}

async fn about(
    endpoint: &str,
    statement: Statement,
    model: &PlatformModel,
) -> Result<Answer, CollateralError> {
    let answer = get(endpoint, &statement.path(model)).await?;
    let chain = answer.headers.get(statement.chain_header());
    let chain = chain.and_then(|value| value.to_str().ok());
    Ok(Answer {
        body: answer.body,
        // Without one the answers make no collateral, and the error says which.
        chain: chain.unwrap_or_default().to_owned(),
    })
}
