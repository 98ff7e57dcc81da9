"""An independent resource server as a judge, like tests/node/resource-server.mjs, by authlib and joserfc.

Reads one JSON object a line (issuer, jwks, audience, method, url, access_token, dpop_proof, now_s) and prints
one verdict a line: {"ok": true, "claims": {...}} or {"ok": false, "error": "...", "by": "authlib" | "joserfc"}.
authlib checks the token by RFC 9068; joserfc checks signature and thumbprint again, and the proof.
"""

import base64
import hashlib
import json
import sys

from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from joserfc import jws, jwt
from joserfc.jwk import KeySet, import_key

ALGORITHMS = ["ES256", "EdDSA"]
# authlib names no algorithms, so joserfc takes those that it recommends, and EdDSA is none of them.
jws.JWSRegistry.recommended = [*jws.JWSRegistry.recommended, "EdDSA"]
PROOF_WINDOW_S = 300


class Validator(JWTBearerTokenValidator):
    """The keys come inline, so that TLS trust does not matter."""

    def __init__(self, case):
        super().__init__(issuer=case["issuer"], resource_server=case["audience"])
        self.case = case

    def get_jwks(self):
        return KeySet.import_key_set(self.case["jwks"])


def refuse_unless(holds, reason):
    if not holds:
        raise ValueError(reason)


def by_authlib(case):
    validator = Validator(case)
    token = validator.authenticate_token(case["access_token"])
    refuse_unless(token is not None, "authlib does not read the token")
    validator.validate_token(token, scopes=None, request=None)


def by_joserfc(case):
    token = jwt.decode(case["access_token"], KeySet.import_key_set(case["jwks"]), algorithms=ALGORITHMS)
    claims, now_s = token.claims, case["now_s"]
    refuse_unless(token.header["typ"] == "at+jwt", "typ is not at+jwt")
    refuse_unless(claims["iss"] == case["issuer"], "another issuer")
    refuse_unless(claims["aud"] == case["audience"], "another audience")
    refuse_unless(claims["iat"] <= now_s < claims["exp"], "not in its time")
    refuse_unless(list(claims["cnf"]) == ["jkt"], "not exactly one confirmation")

    found = jws.extract_compact(case["dpop_proof"].encode())
    header = found.headers()
    refuse_unless(header["typ"] == "dpop+jwt", "typ is not dpop+jwt")
    key = import_key(header["jwk"])
    refuse_unless(not key.is_private, "the proof shows a private key")
    proof = jwt.decode(case["dpop_proof"], key, algorithms=ALGORITHMS).claims
    ath = base64.urlsafe_b64encode(hashlib.sha256(case["access_token"].encode("ascii")).digest())
    refuse_unless(key.thumbprint() == claims["cnf"]["jkt"], "cnf.jkt is not the thumbprint of the proof's key")
    refuse_unless(proof["ath"] == ath.rstrip(b"=").decode(), "ath is not the digest of the token")
    refuse_unless(proof["htm"] == case["method"], "htm is not the method")
    refuse_unless(proof["htu"] == case["url"], "htu is not the URL")
    refuse_unless(isinstance(proof["jti"], str) and proof["jti"], "no jti")
    refuse_unless(abs(now_s - proof["iat"]) <= PROOF_WINDOW_S, "iat is outside the window")
    return claims


def judge(line):
    by = None
    try:
        case = json.loads(line)
        by = "authlib"
        by_authlib(case)
        by = "joserfc"
        return {"ok": True, "claims": by_joserfc(case)}
    except Exception as error:  # whatever a library raises is its verdict
        return {"ok": False, "error": f"{type(error).__name__}: {error}", "by": by}


for line in sys.stdin:
    print(json.dumps(judge(line)), flush=True)
