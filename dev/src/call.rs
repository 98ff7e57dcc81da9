//! A call at the demo's API, through the gateway.

use http::{HeaderMap, Method, StatusCode};
use tokenkeep::gateway::CallError;
use tokenkeep::{GatewayClient, GatewayRequest};

/// Gets a resource: the status, and all that the client received, as text.
pub(crate) async fn get(
    gateway: &GatewayClient,
    url: &str,
) -> Result<(StatusCode, String), CallError> {
    let request = GatewayRequest {
        method: Method::GET,
        url: url.to_owned(),
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
        scopes: Vec::new(),
    };
    let mut answer = Box::pin(gateway.call(&request)).await?;
    let mut received = format!("{:?}\n", answer.headers());
    while let Some(piece) = Box::pin(answer.chunk()).await? {
        received.push_str(&String::from_utf8_lossy(&piece));
    }
    Ok((answer.status(), received))
}
