//! Writing the request to a provider's token endpoint [RFC 6749 §6].

use base64ct::{Base64, Encoding};
use ring::rand::SecureRandom;
use url::form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use super::credential::Credential;
use super::{UpstreamRequest, Wanted, assertion};
use crate::http_url::HttpUrl;
use crate::registry::{App, AuthMethod, Provider};
use crate::seal::SealError;
use crate::secret::{
    AuthorizationCode, CodeVerifier, CredentialHeader, DeviceCode, RefreshToken, UpstreamBody,
};
use crate::time::Now;

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

/// Who asks: an app at its provider, with what it authenticates by.
pub(crate) struct Author<'a> {
    pub(crate) provider: &'a Provider,
    pub(crate) app: &'a App,
    pub(crate) credential: Credential,
    pub(crate) rng: &'a dyn SecureRandom,
    pub(crate) now: &'a Now,
}

impl Author<'_> {
    pub(super) fn refresh(
        self,
        token: &RefreshToken,
        wanted: &Wanted,
        dpop: Option<String>,
    ) -> Result<UpstreamRequest, SealError> {
        // Named always: what the user consented to may be wider than the grant.
        let scope = wanted.scopes.to_string();
        let mut fields: Vec<(&str, &[u8])> = vec![
            ("grant_type", b"refresh_token"),
            ("refresh_token", token.expose()),
        ];
        if !scope.is_empty() {
            fields.push(("scope", scope.as_bytes()));
        }
        if let Some(resource) = &wanted.resource {
            fields.push(("resource", resource.as_bytes()));
        }
        let url = &self.provider.token_endpoint;
        let request = self.request(url, &fields)?;
        Ok(UpstreamRequest { dpop, ..request })
    }

    /// The exchange of a code [RFC 6749 §4.1.3, RFC 7636 §4.5].
    pub(crate) fn code(
        self,
        code: &AuthorizationCode,
        redirect_uri: &str,
        verifier: &CodeVerifier,
        resource: Option<&str>,
        dpop: Option<String>,
    ) -> Result<UpstreamRequest, SealError> {
        let mut fields: Vec<(&str, &[u8])> = vec![
            ("grant_type", b"authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", redirect_uri.as_bytes()),
            ("code_verifier", verifier.expose()),
        ];
        if let Some(resource) = resource {
            fields.push(("resource", resource.as_bytes()));
        }
        let url = &self.provider.token_endpoint;
        let request = self.request(url, &fields)?;
        Ok(UpstreamRequest { dpop, ..request })
    }

    /// Asks for a device's code [RFC 8628 §3.1].
    pub(crate) fn device(
        self,
        endpoint: &HttpUrl,
        scope: &str,
        resources: &[&str],
    ) -> Result<UpstreamRequest, SealError> {
        let mut fields: Vec<(&str, &[u8])> = Vec::new();
        if !scope.is_empty() {
            fields.push(("scope", scope.as_bytes()));
        }
        fields.extend(resources.iter().map(|uri| ("resource", uri.as_bytes())));
        self.request(endpoint, &fields)
    }

    /// Asks whether the owner of a device consented [RFC 8628 §3.4].
    pub(crate) fn device_token(
        self,
        code: &DeviceCode,
        resource: Option<&str>,
        dpop: Option<String>,
    ) -> Result<UpstreamRequest, SealError> {
        let mut fields: Vec<(&str, &[u8])> = vec![
            (
                "grant_type",
                b"urn:ietf:params:oauth:grant-type:device_code",
            ),
            ("device_code", code.expose()),
        ];
        if let Some(resource) = resource {
            fields.push(("resource", resource.as_bytes()));
        }
        let url = &self.provider.token_endpoint;
        let request = self.request(url, &fields)?;
        Ok(UpstreamRequest { dpop, ..request })
    }

    /// A request to a revocation endpoint [RFC 7009 §2.1].
    pub(super) fn revocation(
        self,
        endpoint: &HttpUrl,
        token: &RefreshToken,
    ) -> Result<UpstreamRequest, SealError> {
        let fields: [(&str, &[u8]); 2] = [
            ("token", token.expose()),
            ("token_type_hint", b"refresh_token"),
        ];
        self.request(endpoint, &fields)
    }

    /// A form with what the app authenticates by.
    fn request(
        self,
        url: &HttpUrl,
        fields: &[(&str, &[u8])],
    ) -> Result<UpstreamRequest, SealError> {
        let id = self.app.oauth_client_id.as_bytes();
        let mut own: Vec<(&str, &[u8])> = vec![("client_id", id)];
        let (mut authorization, mut certificate) = (None, None);
        let assertion;
        match (self.app.auth_method, &self.credential) {
            (AuthMethod::None, _) => {}
            (AuthMethod::ClientSecretPost, Credential::Secret(secret)) => {
                own.push(("client_secret", secret.expose()));
            }
            (AuthMethod::ClientSecretBasic, Credential::Secret(secret)) => {
                own.clear();
                authorization = Some(basic(id, secret.expose()));
            }
            (AuthMethod::PrivateKeyJwt, Credential::Key(key)) => {
                let audience = assertion::audience(self.provider);
                assertion = assertion::sign(self.app, audience, key, self.now, self.rng)?;
                own.push(("client_assertion_type", assertion::TYPE.as_bytes()));
                own.push(("client_assertion", assertion.as_bytes()));
            }
            (AuthMethod::TlsClientAuth, Credential::Certificate(_)) => {}
            // What was opened belongs to the method: see `open_credential`.
            (
                AuthMethod::ClientSecretPost
                | AuthMethod::ClientSecretBasic
                | AuthMethod::PrivateKeyJwt
                | AuthMethod::TlsClientAuth,
                _,
            ) => return Err(SealError::Failed),
        }
        let all = || fields.iter().chain(&own);
        let values: Vec<&[u8]> = all().map(|(_, value)| *value).collect();
        let mut form = Form(Zeroizing::new(Vec::with_capacity(room(&values))));
        for (name, value) in all() {
            form.push(name, value);
        }
        if let Credential::Certificate(shown) = self.credential {
            certificate = Some(shown);
        }
        Ok(UpstreamRequest {
            url: url.clone(),
            authorization,
            body: UpstreamBody::new(std::mem::take(&mut *form.0)),
            certificate,
            dpop: None,
            deadline_ms: self.provider.profile.deadline_ms,
        })
    }
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
    use std::sync::{Arc, LazyLock};

    use ring::rand::SystemRandom;

    use super::*;
    use crate::boot::Randomness;
    use crate::ids::{AppId, ProviderId, VendorId};
    use crate::keys::{ClientCertificate, make_app_key};
    use crate::profile::Profile;
    use crate::registry::Rotation;
    use crate::scope::Scopes;
    use crate::secret::{AppPrivateKey, ClientSecret};
    use crate::testing::World;

    fn provider() -> Provider {
        Provider {
            issuer: None,
            consent: None,
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
            key: None,
        }
    }

    static RNG: LazyLock<SystemRandom> = LazyLock::new(SystemRandom::new);

    fn with_credential<'a>(
        provider: &'a Provider,
        app: &'a App,
        credential: Credential,
    ) -> Author<'a> {
        Author {
            credential,
            ..author(provider, app)
        }
    }

    fn author<'a>(provider: &'a Provider, app: &'a App) -> Author<'a> {
        let now = &Now {
            lo_s: 100,
            hi_s: 101,
            mono_ms: 0,
        };
        Author {
            provider,
            app,
            credential: Credential::Secret(ClientSecret::new(b"s&c=".to_vec())),
            rng: &*RNG,
            now,
        }
    }

    fn written(method: AuthMethod, wanted: &Wanted) -> (Option<String>, String) {
        let token = RefreshToken::new(b"r+t/ %".to_vec());
        let (provider, app) = (provider(), app(method));
        let request = author(&provider, &app)
            .refresh(&token, wanted, None)
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (
            request.authorization.map(|header| text(header.expose())),
            text(request.body.expose()),
        )
    }

    /// A certificate, and its DER.
    fn certificate() -> (ClientCertificate, Vec<u8>) {
        let rng: Randomness = Arc::new(SystemRandom::new());
        let now = World::new(Rotation::Strict).now;
        let made = make_app_key("a", &now, &*rng).unwrap();
        let key = AppPrivateKey::new(made.pkcs8.to_vec());
        let certificate = ClientCertificate::new(made.certificate.clone(), &key, &rng);
        (certificate.unwrap(), made.certificate)
    }

    #[test]
    fn a_certificate_is_shown_by_apps_that_authenticate_by_it_alone() {
        let token = RefreshToken::new(b"r".to_vec());
        let provider = provider();
        let (shown, der) = certificate();
        let app = app(AuthMethod::TlsClientAuth);
        let author = with_credential(&provider, &app, Credential::Certificate(Box::new(shown)));
        let request = author
            .refresh(&token, &Wanted::with(Scopes::default()), None)
            .unwrap();
        let found = request
            .certificate
            .map(|shown| shown.certificate().to_vec());
        assert_eq!(found, Some(der));
        assert!(request.authorization.is_none());
        let form = "grant_type=refresh_token&refresh_token=r&client_id=id%3A1";
        assert_eq!(request.body.expose(), form.as_bytes());

        for method in [
            AuthMethod::None,
            AuthMethod::ClientSecretPost,
            AuthMethod::ClientSecretBasic,
        ] {
            let app = self::app(method);
            let request = self::author(&provider, &app)
                .refresh(&token, &Wanted::with(Scopes::default()), None)
                .unwrap();
            assert!(request.certificate.is_none(), "{method:?}");
        }
    }

    #[test]
    fn a_credential_of_another_method_makes_no_request() {
        let token = RefreshToken::new(b"r".to_vec());
        let provider = provider();
        for method in [
            AuthMethod::ClientSecretPost,
            AuthMethod::ClientSecretBasic,
            AuthMethod::PrivateKeyJwt,
            AuthMethod::TlsClientAuth,
        ] {
            let app = app(method);
            let author = with_credential(&provider, &app, Credential::Nothing);
            let refused = author.refresh(&token, &Wanted::with(Scopes::default()), None);
            assert_eq!(refused.map(|_| ()), Err(SealError::Failed), "{method:?}");
        }
    }

    #[test]
    fn the_form_has_room_for_what_grows_most() {
        assert_eq!(room(&[]), 256);
        assert_eq!(room(&[b"ab", b"", b"c"]), 265);
        // Each of these bytes is three when it is encoded; the names fit into the rest.
        let worst = [b'+'; 20_000];
        let fields: [(&str, &[u8]); 6] = [
            ("grant_type", &worst),
            ("refresh_token", &worst),
            ("scope", &worst),
            ("client_id", &worst),
            ("client_assertion_type", &worst),
            ("client_assertion", &worst),
        ];
        let values = fields.map(|(_, value)| value);
        let mut form = Form(Zeroizing::new(Vec::with_capacity(room(&values))));
        let begins_at = form.0.as_ptr();
        for (name, value) in fields {
            form.push(name, value);
        }
        assert!(form.0.len() > 360_000);
        assert_eq!(form.0.as_ptr(), begins_at, "it grew, and left a copy");
    }

    #[test]
    fn a_revocation_names_the_token_and_what_it_is() {
        let token = RefreshToken::new(b"r+1".to_vec());
        let provider = provider();
        let endpoint = provider.revocation_endpoint.clone().unwrap();
        let app = app(AuthMethod::None);
        let request = author(&provider, &app).revocation(&endpoint, &token);
        let request = request.unwrap();
        assert_eq!(request.url, endpoint);
        let form = String::from_utf8(request.body.expose().to_vec()).unwrap();
        let expected = "token=r%2B1&token_type_hint=refresh_token&client_id=id%3A1";
        assert_eq!(form, expected);
    }

    #[test]
    fn each_method_puts_the_secret_in_its_place() {
        let base = "grant_type=refresh_token&refresh_token=r%2Bt%2F+%25";
        let mut wanted = Wanted::with(Scopes::parse(["b", "a"]).unwrap());
        assert_eq!(
            written(AuthMethod::None, &wanted),
            (None, format!("{base}&scope=a+b&client_id=id%3A1"))
        );
        wanted.resource = Some("https://api.example/".to_owned());
        let resource = "resource=https%3A%2F%2Fapi.example%2F";
        assert_eq!(
            written(AuthMethod::None, &wanted),
            (
                None,
                format!("{base}&scope=a+b&{resource}&client_id=id%3A1")
            )
        );
        let any = Wanted::with(Scopes::default());
        assert_eq!(
            written(AuthMethod::ClientSecretPost, &any),
            (
                None,
                format!("{base}&client_id=id%3A1&client_secret=s%26c%3D")
            )
        );
        let pair = Base64::encode_string(b"id%3A1:s%26c%3D");
        assert_eq!(
            written(AuthMethod::ClientSecretBasic, &any),
            (Some(format!("Basic {pair}")), base.to_owned())
        );
    }
}
