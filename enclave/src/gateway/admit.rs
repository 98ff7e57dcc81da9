//! Admission of a call, and what is forwarded for it.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use ring::digest::{SHA256, digest};
use tenant_policy::Ask as PolicyAsk;

use super::approve::Ruling;
use super::path::GatewayPath;
use super::references::References;
use super::{
    Admitted, AnswerRules, GatewayError, GatewayRequest, METHODS, PathError, UpstreamCall, address,
    headers,
};
use crate::Enclave;
use crate::actor;
use crate::approvals::{Approval, ApprovalState};
use crate::audit::Event;
use crate::limits::Counted;
use crate::mint::Confirmation;
use crate::nonce::Role;
use crate::operation::{self, Called, OperationError, OperationName};
use crate::pending::Pending;
use crate::policy::{self, Ask, Denied};
use crate::refresh::{UpstreamAccess, Wanted};
use crate::registry::{Api, ClientKind};
use crate::ruling::{Asked, Rule};
use crate::scope::Scopes;
use crate::secret::CredentialHeader;
use crate::store::Batch;
use crate::time::Now;

use super::TokenError;

/// The header with the proof.
const DPOP: &str = "dpop";

impl Enclave {
    /// Decides whether a call passes, and builds what is to be forwarded.
    ///
    /// # Errors
    /// [`GatewayError`] says which step refused.
    pub fn admit(
        &self,
        request: &GatewayRequest<'_>,
        now: &Now,
    ) -> Result<Pending<Admitted>, GatewayError> {
        // Size and syntax.
        if !METHODS.contains(request.method) {
            return Err(GatewayError::Method);
        }
        let origin = &self.config.gateway_origin;
        let (path, audience, htu_origin) = match address::of_authority(origin, request.authority) {
            Some(named) => {
                let path = GatewayPath::below_host(named, request.path, request.query)?;
                let resource = address::by_host(origin, &path.grant, &path.target);
                let resource = resource.ok_or(PathError::Form)?;
                (path, resource.clone(), resource)
            }
            None => {
                let path = GatewayPath::parse(request.path, request.query)?;
                let resource = address::by_path(origin, &path.grant, &path.target);
                (path, resource, origin.clone())
            }
        };
        let (scheme, token) = authorization(request.headers)?;

        // Token: ours, for this very prefix, not expired.
        let claims = self.check_token(token, &audience, now)?;
        self.call_rates.peek(&claims.client_id, now)?;

        // Possession: by the token's key for this very request, or by the
        // certificate of the connection.
        let htm = request.method.as_str();
        match (scheme, &claims.cnf) {
            (Scheme::Dpop, Confirmation::Jkt(jkt)) => {
                let jkt = jkt.parse().map_err(|_| TokenError::Claims)?;
                let proofs: Vec<&[u8]> = request
                    .headers
                    .get_all(DPOP)
                    .iter()
                    .map(HeaderValue::as_bytes)
                    .collect();
                let htu = format!("{htu_origin}{}", request.path);
                self.accept_proof(&proofs, Role::Gateway, htm, &htu, Some((token, jkt)), now)?;
            }
            (Scheme::Bearer, bound @ Confirmation::X5tS256(_)) => {
                let shown = request.peer.certificate_sha256;
                if shown.as_ref().map(Confirmation::certificate).as_ref() != Some(bound) {
                    return Err(TokenError::Certificate.into());
                }
            }
            // A bound token is never a bearer token, nor the other way round
            // [RFC 9449 §7.1].
            (Scheme::Dpop, Confirmation::X5tS256(_)) | (Scheme::Bearer, Confirmation::Jkt(_)) => {
                return Err(TokenError::Scheme.into());
            }
        }

        // Grant: it may have changed since the token was issued.
        let grant_id = path.grant;
        let scopes = Scopes::parse(claims.scope.split(' ').filter(|s| !s.is_empty()))
            .map_err(|_| TokenError::Claims)?;
        let view = self.view.read();
        let client = view
            .clients
            .get(&claims.client_id)
            .ok_or(Denied::NoSuchGrant)?;
        let refused = |_: &Denied| self.count_denial(&view, &claims.client_id, &grant_id, now);
        let grant = policy::find_grant(&view, &claims.client_id, &grant_id).inspect_err(refused)?;
        let ask = Ask {
            client: &client.value,
            grant: &grant.value,
            resource: &audience,
            scopes: &scopes,
            bound_to: claims.cnf.thumbprint(),
        };
        let mut allowed = policy::authorize(&view, origin, &ask, now).inspect_err(refused)?;
        self.check_fresh(now)?;
        let provider = view
            .apps
            .get(&grant.value.app)
            .and_then(|app| view.providers.get(&app.value.provider))
            .ok_or(Denied::Resource)?;
        let target = provider
            .value
            .targets
            .iter()
            .find(|target| target.name == path.target)
            .ok_or(Denied::Resource)?;
        let Api::Gateway {
            base_url,
            tenant_hosts,
            operations,
            upstream_resource,
        } = &target.api
        else {
            return Err(Denied::Resource.into());
        };
        let base_url = match (tenant_hosts, grant.value.host_at(&target.name)) {
            (false, _) => base_url.clone(),
            (true, host) => host
                .and_then(|host| base_url.at_host_below(host))
                .ok_or(Denied::Resource)?,
        };

        // Operation: what maps to none is refused, where the target lists some.
        let called = Called {
            method: request.method,
            path: path.rest,
            query: request.query,
            headers: request.headers,
            body_bytes: request.body_bytes,
        };
        let operation = match operations.as_slice() {
            [] if grant.value.operations.is_empty() => None,
            [] => return Err(OperationError::Unknown.into()),
            operations => {
                let operation = operation::find(operations, &called)?;
                if !grant.value.allows(&target.name, operation) {
                    return Err(OperationError::NotGranted(operation.id.clone()).into());
                }
                Some(operation.clone())
            }
        };

        self.call_rates.take(&claims.client_id, now)?;
        let act = claims.act.as_deref();
        actor::within(act, grant.value.max_actor_depth())?;
        let by = (&*client.value, &target.name);
        self.count(&view, Counted::Calls, &grant.value, Some(by), now)?;
        let byte_budgets = self.byte_budgets(&view, &grant.value, by, now)?;

        // The tenant's own policy, which sees operations and never a raw path.
        let name = operation.as_ref().map(|operation| operation.id.as_str());
        let asked = Asked {
            client: Arc::clone(&client.value),
            grant: Arc::clone(&grant.value),
            target: target.name.clone(),
            scopes: allowed.scopes.clone(),
            cnf: claims.cnf.clone(),
            tier: self.config.tier.clone(),
            address: request.peer.address,
            at_s: now.hi_s,
            ask: PolicyAsk::Call {
                operation: name.unwrap_or_default().to_owned(),
                method: htm.to_owned(),
            },
        };
        let policy = match self.rule(&view, asked, &mut allowed.touched, now)? {
            Rule::Passed(policy) => policy,
            Rule::Refused(refusal) => return Ok(refusal),
        };

        // A person's approval, for operations that the tenant wants one for.
        let asked = |id| {
            let name = OperationName {
                target: target.name.clone(),
                operation: operation.as_ref()?.id.clone(),
            };
            grant.value.needs_approval(&name).then(|| Approval {
                id,
                tenant: grant.value.tenant.clone(),
                grant: grant_id.clone(),
                client: claims.client_id.clone(),
                operation: name,
                method: htm.to_owned(),
                path_and_query: below_target(path.rest, request.query),
                actors: actor::names(act).into_iter().map(str::to_owned).collect(),
                asked_at_s: now.lo_s,
                state: ApprovalState::Waiting,
                ends_in_s: 0,
            })
        };
        let approved = match self.approve(&view, &grant.value, asked, now)? {
            Ruling::Passed(approved) => approved,
            Ruling::Refused(refusal) => return Ok(refusal),
        };
        let (approval, used) = approved.unzip();

        // Write down; nothing upstream is touched before the leaf is durable.
        let event = Event::GatewayCall {
            grant: &grant_id,
            client: &claims.client_id,
            target: path.target.as_str(),
            operation: name,
            method: htm,
            path_sha256: hex_digest(path.rest.as_bytes()),
            jti: &claims.jti,
            actors: actor::names(act),
            agent: client.value.kind == ClientKind::Agent,
            approval: approval.as_deref(),
            policy,
        };
        let leaf = self.leaf(&view, Some(&grant.value.tenant), &event, now)?;
        let mut whole_path = format!("{}{}", base_url.path().trim_end_matches('/'), path.rest);
        if whole_path.is_empty() {
            whole_path.push('/');
        }
        let path_and_query = below_target(&whole_path, request.query);
        let references =
            References::new(&base_url, &path_and_query, &audience).ok_or(PathError::Form)?;
        let admitted = Admitted {
            tenant: grant.value.tenant.clone(),
            jti: claims.jti.clone(),
            byte_budgets,
            references,
            grant: grant_id,
            wanted: Wanted {
                scopes: allowed.scopes,
                resource: upstream_resource.clone(),
                client_key: None,
            },
            client: claims.client_id.clone(),
            target: target.name.clone(),
            operation,
            method: request.method.clone(),
            base_url,
            path_and_query,
            headers: headers::request_headers(request.headers),
            touched: allowed.touched.clone(),
        };
        let (writes, effects) = self.note_use(&view, &grant.value, now)?.unzip();
        let batch = Batch {
            writes: writes.into_iter().collect(),
            leaves: used.into_iter().chain([leaf]).collect(),
        };
        let effects = effects.into_iter().collect();
        Ok(Pending::new(batch, effects, allowed.touched, admitted))
    }

    /// The request to the API, with the credential injected last. The freezes are
    /// looked at once more: the last wait is behind us.
    ///
    /// # Errors
    /// [`GatewayError::Denied`], or [`GatewayError::Internal`] without random bytes.
    pub fn forward(
        &self,
        admitted: &Admitted,
        access: &UpstreamAccess,
        now: &Now,
    ) -> Result<UpstreamCall, GatewayError> {
        if let Some(denied) = self.stopped(&admitted.touched, now) {
            return Err(denied.into());
        }
        let mut headers = admitted.headers.clone();
        // An echo could not be seen in anything else.
        let plain = HeaderValue::from_static("identity");
        headers.insert(header::ACCEPT_ENCODING, plain);
        let scheme: &[u8] = match self.api_proof(admitted, access, now)? {
            None => b"Bearer ",
            Some(proof) => {
                headers.insert(DPOP, proof);
                b"DPoP "
            }
        };
        let mut credential = scheme.to_vec();
        credential.extend_from_slice(access.token.expose());
        Ok(UpstreamCall {
            base_url: admitted.base_url.clone(),
            method: admitted.method.clone(),
            path_and_query: admitted.path_and_query.clone(),
            headers,
            authorization: CredentialHeader::new(credential),
            answer: AnswerRules {
                references: admitted.references.clone(),
                echo: access.echo_filter(),
            },
        })
    }
}

/// How a token is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// With a proof [RFC 9449 §7.1].
    Dpop,
    /// Over the connection of the certificate that it is bound to [RFC 8705 §3].
    Bearer,
}

/// The one header `authorization`: its scheme, in any case [RFC 9110 §11.1], and
/// its token.
fn authorization(headers: &HeaderMap) -> Result<(Scheme, &str), GatewayError> {
    let refused = GatewayError::Authorization;
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(refused.clone())?;
    if values.next().is_some() {
        return Err(refused);
    }
    let value = value.to_str().map_err(|_| refused.clone())?;
    let (scheme, token) = value.split_once(' ').ok_or(refused.clone())?;
    if scheme.eq_ignore_ascii_case("dpop") {
        Ok((Scheme::Dpop, token))
    } else if scheme.eq_ignore_ascii_case("bearer") {
        Ok((Scheme::Bearer, token))
    } else {
        Err(refused)
    }
}

fn below_target(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

fn hex_digest(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let digest = digest(&SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |mut text, b| {
        // Writing to a string does not fail.
        write!(text, "{b:02x}").unwrap_or_default();
        text
    })
}
