//! Writing the request to a provider's token endpoint [RFC 6749 §6].

use base64ct::{Base64, Encoding};
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use super::UpstreamRequest;
use crate::http_url::HttpUrl;
use crate::registry::{App, AuthMethod, Provider};
use crate::scope::Scopes;
use crate::secret::{ClientSecret, CredentialHeader, RefreshToken, UpstreamBody};

/// The form, written into one buffer that is wiped.
struct Form(Zeroizing<Vec<u8>>);

impl Form {
    fn push(&mut self, name: &str, value: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b'&');
        }
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'=');
        encode_into(&mut self.0, value);
    }
}

fn encode_into(out: &mut Vec<u8>, value: &[u8]) {
    for piece in byte_serialize(value) {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// Room for the encoded form without growing, so that no copy is left behind.
fn room(parts: &[&[u8]]) -> usize {
    parts.iter().fold(256, |sum, part| {
        sum.saturating_add(part.len().saturating_mul(3))
    })
}

pub(super) fn refresh(
    provider: &Provider,
    app: &App,
    secret: Option<&ClientSecret>,
    token: &RefreshToken,
    scopes: Option<&Scopes>,
) -> UpstreamRequest {
    let scope = scopes.map(Scopes::to_string).unwrap_or_default();
    let fields: [(&str, &[u8]); 3] = [
        ("grant_type", b"refresh_token"),
        ("refresh_token", token.expose()),
        ("scope", scope.as_bytes()),
    ];
    let asked = if scope.is_empty() { 2 } else { 3 };
    let fields = fields.get(..asked).unwrap_or_default();
    authenticated(&provider.token_endpoint, provider, app, secret, fields)
}

/// A form with what the app authenticates by.
fn authenticated(
    url: &HttpUrl,
    provider: &Provider,
    app: &App,
    secret: Option<&ClientSecret>,
    fields: &[(&str, &[u8])],
) -> UpstreamRequest {
    let secret_bytes = secret.map(ClientSecret::expose).unwrap_or_default();
    let id = app.oauth_client_id.as_bytes();
    let mut values: Vec<&[u8]> = fields.iter().map(|(_, value)| *value).collect();
    values.extend([id, secret_bytes]);
    let mut form = Form(Zeroizing::new(Vec::with_capacity(room(&values))));
    for (name, value) in fields {
        form.push(name, value);
    }
    let authorization = match app.auth_method {
        AuthMethod::None => {
            form.push("client_id", id);
            None
        }
        AuthMethod::ClientSecretPost => {
            form.push("client_id", id);
            form.push("client_secret", secret_bytes);
            None
        }
        AuthMethod::ClientSecretBasic => Some(basic(id, secret_bytes)),
    };
    UpstreamRequest {
        url: url.clone(),
        authorization,
        body: UpstreamBody::new(std::mem::take(&mut *form.0)),
        deadline_ms: provider.profile.deadline_ms,
    }
}

/// A request to a revocation endpoint [RFC 7009 §2.1].
pub(super) fn revocation(
    endpoint: &HttpUrl,
    provider: &Provider,
    app: &App,
    secret: Option<&ClientSecret>,
    token: &RefreshToken,
) -> UpstreamRequest {
    let fields: [(&str, &[u8]); 2] = [
        ("token", token.expose()),
        ("token_type_hint", b"refresh_token"),
    ];
    authenticated(endpoint, provider, app, secret, &fields)
}

/// `Basic`, with id and secret form-encoded first [RFC 6749 §2.3.1].
fn basic(id: &[u8], secret: &[u8]) -> CredentialHeader {
    let mut pair = Zeroizing::new(Vec::with_capacity(room(&[id, secret])));
    encode_into(&mut pair, id);
    pair.push(b':');
    encode_into(&mut pair, secret);
    let mut value = b"Basic ".to_vec();
    let encoded = Zeroizing::new(Base64::encode_string(&pair));
    value.extend_from_slice(encoded.as_bytes());
    CredentialHeader::new(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AppId, ProviderId, VendorId};
    use crate::profile::Profile;
    use crate::registry::Rotation;

    fn provider() -> Provider {
        Provider {
            id: ProviderId::parse("p").unwrap(),
            token_endpoint: HttpUrl::parse("https://p.example/token").unwrap(),
            revocation_endpoint: HttpUrl::parse("https://p.example/revoke").ok(),
            rotation: Rotation::Strict,
            targets: Vec::new(),
            profile: Profile::default(),
            made_from: None,
        }
    }

    fn app(auth_method: AuthMethod) -> App {
        App {
            id: AppId::parse("a").unwrap(),
            vendor: VendorId::parse("v").unwrap(),
            provider: ProviderId::parse("p").unwrap(),
            oauth_client_id: "id:1".to_owned(),
            auth_method,
        }
    }

    fn written(method: AuthMethod, scopes: Option<&Scopes>) -> (Option<String>, String) {
        let secret = ClientSecret::new(b"s&c=".to_vec());
        let token = RefreshToken::new(b"r+t/ %".to_vec());
        let request = refresh(&provider(), &app(method), Some(&secret), &token, scopes);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (
            request.authorization.map(|header| text(header.expose())),
            text(request.body.expose()),
        )
    }

    #[test]
    fn a_revocation_names_the_token_and_what_it_is() {
        let token = RefreshToken::new(b"r+1".to_vec());
        let provider = provider();
        let endpoint = provider.revocation_endpoint.clone().unwrap();
        let app = app(AuthMethod::None);
        let request = revocation(&endpoint, &provider, &app, None, &token);
        assert_eq!(request.url, endpoint);
        let form = String::from_utf8(request.body.expose().to_vec()).unwrap();
        let expected = "token=r%2B1&token_type_hint=refresh_token&client_id=id%3A1";
        assert_eq!(form, expected);
    }

    #[test]
    fn each_method_puts_the_secret_in_its_place() {
        let base = "grant_type=refresh_token&refresh_token=r%2Bt%2F+%25";
        let scopes = Scopes::parse(["b", "a"]).unwrap();
        assert_eq!(
            written(AuthMethod::None, Some(&scopes)),
            (None, format!("{base}&scope=a+b&client_id=id%3A1"))
        );
        assert_eq!(
            written(AuthMethod::ClientSecretPost, None),
            (
                None,
                format!("{base}&client_id=id%3A1&client_secret=s%26c%3D")
            )
        );
        let pair = Base64::encode_string(b"id%3A1:s%26c%3D");
        assert_eq!(
            written(AuthMethod::ClientSecretBasic, None),
            (Some(format!("Basic {pair}")), base.to_owned())
        );
    }
}
