//! What a quote claims, as text for a person to look at.

use super::attributes::{TdAttributes, Xfam};
use super::body::{ServiceTds, Td15};
use super::quote::Quote;
use crate::snp::describe_bits;

impl Quote {
    /// What the quote claims, field by field as text, for a person to look at. It is *not* verified, and no program
    /// should decide anything by it.
    #[must_use]
    pub fn claims_for_display(&self) -> Vec<(&'static str, String)> {
        let body = self.body();
        let [rtmr0, rtmr1, rtmr2, rtmr3] = body.rtmrs;
        let mut claims = vec![
            ("version", self.version().to_string()),
            ("body", self.body_kind().as_str().to_owned()),
            ("tee_tcb_svn", hex::encode(body.tee_tcb_svn)),
            ("mr_seam", hex::encode(body.mr_seam)),
            ("mr_signer_seam", hex::encode(body.mr_signer_seam)),
            ("seam_attributes", hex::encode(body.seam_attributes)),
            (
                "td_attributes",
                describe_bits(body.td_attributes.bits(), &TdAttributes::NAMES),
            ),
            ("xfam", describe_bits(body.xfam.bits(), &Xfam::NAMES)),
            ("mrtd", hex::encode(body.mrtd)),
            ("mr_config_id", hex::encode(body.mr_config_id)),
            ("mr_owner", hex::encode(body.mr_owner)),
            ("mr_owner_config", hex::encode(body.mr_owner_config)),
            ("rtmr0", hex::encode(rtmr0)),
            ("rtmr1", hex::encode(rtmr1)),
            ("rtmr2", hex::encode(rtmr2)),
            ("rtmr3", hex::encode(rtmr3)),
            ("report_data", hex::encode(body.report_data)),
        ];
        if let Some(Td15 {
            tee_tcb_svn2,
            mr_service_td,
        }) = body.td15
        {
            claims.push(("tee_tcb_svn2", hex::encode(tee_tcb_svn2)));
            claims.push(("mr_service_td", hex::encode(mr_service_td)));
        }
        if let Some(ServiceTds { at_launch, current }) = body.service_tds {
            claims.push(("init_service_td_hash", hex::encode(at_launch)));
            claims.push(("current_service_td_hash", hex::encode(current)));
        }
        claims.push(("evidence_id", hex::encode(self.evidence_id())));
        claims
    }
}
