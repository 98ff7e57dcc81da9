"""Asks Tokenkeep for a token over gRPC and shows it to the gateway: docs/dpop-over-grpc.md, in Python.

Stock libraries alone: grpcio for gRPC, joserfc for JOSE. Reads one JSON object from standard input:
origin (the gRPC origin of the manifest), address (host:port to connect to), ca, cert, key (PEM files),
proto_dir, grant, resource, path; prints one JSON object.
"""

import base64, hashlib, json, ssl, sys, time, urllib.error, urllib.request, uuid

import grpc
from joserfc import jwt
from joserfc.jwk import ECKey

given = json.load(sys.stdin)
sys.path.append(given["proto_dir"])
pb, services = grpc.protos_and_services("tokenkeep/v1/token.proto")
METHOD = "/tokenkeep.v1.TokenService/IssueToken"
key = ECKey.generate_key("P-256")


def proof(htm, htu, nonce, token=None):
    """A new proof: one for each attempt."""
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False)}
    claims = {"jti": str(uuid.uuid4()), "htm": htm, "htu": htu, "iat": int(time.time())}
    if nonce:
        claims["nonce"] = nonce
    if token:
        digest = hashlib.sha256(token.encode("ascii")).digest()
        claims["ath"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return jwt.encode(header, claims, key)


def issue():
    """A token, in at most two rounds: the first tells the nonce."""
    files = [open(given[name], "rb").read() for name in ("ca", "key", "cert")]
    options = [("grpc.enable_retries", 0)]
    with grpc.secure_channel(given["address"], grpc.ssl_channel_credentials(*files), options) as channel:
        stub = services.TokenServiceStub(channel)
        request = pb.IssueTokenRequest(grant=given["grant"], resource=given["resource"])
        nonce, rounds = None, 0
        while True:
            rounds += 1
            metadata = [("dpop", proof("POST", given["origin"] + METHOD, nonce))]
            try:
                answer, call = stub.IssueToken.with_call(request, timeout=15, metadata=metadata)
                return answer, dict(call.initial_metadata())["dpop-nonce"], rounds
            except grpc.RpcError as error:
                told = dict(error.trailing_metadata())
                if rounds > 1 or 'error="use_dpop_nonce"' not in told.get("www-authenticate", ""):
                    raise
                nonce = told["dpop-nonce"]


def call(token, nonce=None):
    """The API behind the gateway. Its nonces are its own."""
    url = given["resource"] + given["path"]
    headers = {"authorization": "DPoP " + token, "dpop": proof("GET", url, nonce, token)}
    context = ssl.create_default_context(cafile=given["ca"])
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        if nonce is None and 'error="use_dpop_nonce"' in error.headers.get("www-authenticate", ""):
            return call(token, error.headers["dpop-nonce"])
        return error.code, error.read().decode()


answer, nonce, rounds = issue()
status, body = call(answer.access_token)
print(json.dumps({"rounds": rounds, "token_type": answer.token_type, "expires_in_s": answer.expires_in_s,
                  "status": status, "body": body, "access_token": answer.access_token}))
