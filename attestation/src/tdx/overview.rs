//! What a quote and its collateral state, as JSON, for people and for comparison.

use dcap_qvl::QuoteCollateralV3;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::body::{Reader, ServiceTds, Td15, TdBody};
use super::quote::{MAX_QUOTE_BYTES, Quote};
use super::{collateral, model, quote};
use crate::overview::{date_time, validity};

/// The fields of a quote, in full, then `quote`: an outline in which long values are cut to their first bytes, as
/// reports about quotes print them; and `collateral`. A quote that is none of TDX has the outline only.
pub(crate) fn overview(raw: &[u8], json: Option<&[u8]>) -> Map<String, Value> {
    let parsed = Quote::parse(raw).ok();
    let mut fields = parsed.as_ref().map(full).unwrap_or_default();
    let mut outline = outline(raw).unwrap_or_default();
    if let Some(quote) = &parsed {
        outline.extend(abridged(quote.body()));
    }
    fields.insert("quote".to_owned(), outline.into());
    let collateral = collateral::parse(json).ok();
    let collateral = collateral.and_then(|collateral| stated(&collateral));
    fields.insert("collateral".to_owned(), json!(collateral));
    fields
}

fn full(quote: &Quote) -> Map<String, Value> {
    let body = quote.body();
    let mut fields = named([
        ("version", json!(quote.version())),
        ("body", json!(quote.body_kind().as_str())),
        ("tee_tcb_svn", hexed(&body.tee_tcb_svn)),
        ("mr_seam", hexed(&body.mr_seam)),
        ("mr_signer_seam", hexed(&body.mr_signer_seam)),
        ("seam_attributes", hexed(&body.seam_attributes)),
        (
            "td_attributes",
            hexed(&body.td_attributes.bits().to_le_bytes()),
        ),
        ("xfam", hexed(&body.xfam.bits().to_le_bytes())),
        ("mrtd", hexed(&body.mrtd)),
        ("mr_config_id", hexed(&body.mr_config_id)),
        ("mr_owner", hexed(&body.mr_owner)),
        ("mr_owner_config", hexed(&body.mr_owner_config)),
        ("rtmrs", json!(body.rtmrs.map(hex::encode))),
        ("report_data", hexed(&body.report_data)),
        ("evidence_id", hexed(&quote.evidence_id())),
    ]);
    if let Some(Td15 {
        tee_tcb_svn2,
        mr_service_td,
    }) = &body.td15
    {
        fields.extend(named([
            ("tee_tcb_svn2", hexed(tee_tcb_svn2)),
            ("mr_service_td", hexed(mr_service_td)),
        ]));
    }
    if let Some(ServiceTds { at_launch, current }) = &body.service_tds {
        fields.extend(named([
            ("init_service_td_hash", hexed(at_launch)),
            ("current_service_td_hash", hexed(current)),
        ]));
    }
    fields
}

/// The body with long values cut.
fn abridged(body: &TdBody) -> Map<String, Value> {
    let cut = |bytes: &[u8], keep: usize| hexed(bytes.get(..keep).unwrap_or(bytes));
    let mut fields = named([
        ("tee_tcb_svn", hexed(&body.tee_tcb_svn)),
        ("mrseam", cut(&body.mr_seam, 8)),
        ("seamattr", hexed(&body.seam_attributes)),
        ("td_attr", hexed(&body.td_attributes.bits().to_le_bytes())),
        ("xfam", hexed(&body.xfam.bits().to_le_bytes())),
        ("mrtd", cut(&body.mrtd, 8)),
        ("mrconfigid", cut(&body.mr_config_id, 8)),
        ("mrowner", cut(&body.mr_owner, 4)),
        ("rtmr", json!(body.rtmrs.map(|rtmr| cut(&rtmr, 4)))),
        ("report_data", cut(&body.report_data, 20)),
    ]);
    if let Some(td15) = &body.td15 {
        fields.extend(named([
            ("tee_tcb_svn2", hexed(&td15.tee_tcb_svn2)),
            ("mrservicetd", cut(&td15.mr_service_td, 8)),
        ]));
    }
    fields
}

/// Header, trailing bytes and PCK certificate of a quote of any TEE; none if it ends too early.
fn outline(raw: &[u8]) -> Option<Map<String, Value>> {
    if raw.len() > MAX_QUOTE_BYTES {
        return None;
    }
    let mut from = Reader(raw);
    let (version, key_type, tee) = (from.u16()?, from.u16()?, from.u32()?);
    from.bytes(2 + 2 + 16 + 20)?;
    let mut fields = named([
        ("len", json!(raw.len())),
        ("v", json!(version)),
        ("akt", json!(key_type)),
        ("tee", json!(format!("{tee:#x}"))),
    ]);
    let body_bytes = if version == 5 {
        let (number, bytes) = (from.u16()?, from.u32()?);
        fields.insert("body".to_owned(), json!([number, bytes]));
        usize::try_from(bytes).ok()?
    } else if tee == quote::TEE_TDX {
        584
    } else {
        384
    };
    from.bytes(body_bytes)?;
    let length = usize::try_from(from.u32()?).ok()?;
    let signature_data = from.bytes(length)?;
    fields.extend(named([
        ("trailing", json!(from.0.len())),
        (
            "trailing_nonzero",
            json!(from.0.iter().any(|byte| *byte != 0)),
        ),
    ]));
    if let Some(pck) = pck(signature_data, version) {
        fields.extend(pck);
    }
    Some(fields)
}

/// Issuer, validity and FMSPC of the PCK certificate, the first of the chain in the quote.
fn pck(signature_data: &[u8], version: u16) -> Option<Map<String, Value>> {
    let der = model::pck_certificate(signature_data, version)?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let tbs = &certificate.tbs_certificate;
    Some(named([
        ("pck_iss", json!(model::common_name(&tbs.issuer))),
        ("pck_val", json!(validity(&tbs.validity))),
        ("fmspc", json!(model::fmspc(&der).map(hex::encode))),
    ]))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TcbInfo {
    fmspc: String,
    tcb_evaluation_data_number: u32,
    issue_date: String,
    next_update: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dated {
    issue_date: String,
    next_update: String,
}

/// What collateral says about itself; no signature is looked at. Dates of one form compare as text.
fn stated(collateral: &QuoteCollateralV3) -> Option<Map<String, Value>> {
    let tcb: TcbInfo = serde_json::from_str(&collateral.tcb_info).ok()?;
    let qe: Dated = serde_json::from_str(&collateral.qe_identity).ok()?;
    let root = list_dates(&collateral.root_ca_crl)?;
    let pck = list_dates(&collateral.pck_crl)?;
    let from = [&tcb.issue_date, &qe.issue_date, &root.0, &pck.0];
    let to = [&tcb.next_update, &qe.next_update, &root.1, &pck.1];
    Some(named([
        ("fmspc", json!(tcb.fmspc)),
        ("tcb_eval", json!(tcb.tcb_evaluation_data_number)),
        ("valid_from", json!(from.into_iter().max())),
        ("valid_to", json!(to.into_iter().min())),
        ("root_crl_next", json!(root.1)),
        ("pck_crl_next", json!(pck.1)),
    ]))
}

/// First and last second of a revocation list.
fn list_dates(der: &[u8]) -> Option<(String, String)> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    let tbs = &list.tbs_cert_list;
    Some((date_time(&tbs.this_update), date_time(&tbs.next_update?)))
}

fn hexed(bytes: &[u8]) -> Value {
    json!(hex::encode(bytes))
}

fn named<const N: usize>(rows: [(&str, Value); N]) -> Map<String, Value> {
    rows.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
