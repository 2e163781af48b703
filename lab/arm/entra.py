"""Entra's token endpoint: client secrets, certificates, federated tokens; and the check of the tokens it gave out.

Refusals are OAuth's documents with Entra's AADSTS codes.
"""

from __future__ import annotations

import base64
import datetime
import hmac
import time
import uuid
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from lab.arm.errors import Refusal
from lab.arm.rights import Principal

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class OAuthError(Exception):
    """A refusal of the token endpoint: HTTP status, OAuth's error, Entra's number, its text."""

    def __init__(self, status: int, error: str, number: int, text: str) -> None:
        super().__init__(f"AADSTS{number}: {text}")
        self.status, self.error, self.number, self.text = status, error, number, text

    def body(self) -> dict[str, Any]:
        """The document that is sent."""
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
        return {"error": self.error, "error_codes": [self.number], "timestamp": stamp, "trace_id": trace, "correlation_id": correlation,
                "error_description": f"AADSTS{self.number}: {self.text} Trace ID: {trace} Correlation ID: {correlation} "
                                     f"Timestamp: {stamp}"}


class Entra:
    """``tenants``: their ids; ``applications``: {client id: application as in lab.arm.seed}; ``key``: signs tokens."""

    def __init__(self, tenants: list[str], applications: dict[str, dict[str, Any]], key: bytes, audience: str) -> None:
        self.tenants, self.applications, self.key, self.audience = tenants, applications, key, audience
        self.seconds = 3600

    def configuration(self, tenant: str, authority: str) -> dict[str, Any]:
        """The OpenID configuration of a tenant. Raises :class:`OAuthError` for an unknown one."""
        self._tenant(tenant)
        base = f"{authority}/{tenant}"
        return {"issuer": f"{base}/v2.0", "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token", "jwks_uri": f"{base}/discovery/v2.0/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "response_types_supported": ["code", "id_token"], "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"], "tenant_region_scope": "NA"}

    def token(self, tenant: str, form: dict[str, str], endpoint: str) -> dict[str, Any]:
        """The answer to a token request. Raises :class:`OAuthError`."""
        self._tenant(tenant)
        if form.get("grant_type") != "client_credentials":
            raise OAuthError(400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type "
                                                                   f"'{form.get('grant_type')}'.")
        client = form.get("client_id", "")
        application = self.applications.get(client)
        if application is None or application["tenant"] != tenant:
            raise OAuthError(400, "unauthorized_client", 700016,
                             f"Application with identifier '{client}' was not found in the directory '{tenant}'. This can happen if the "
                             "application has not been installed by the administrator of the tenant or consented to by any user in the "
                             "tenant. You may have sent your authentication request to the wrong tenant.")
        scope = form.get("scope", "")
        if not scope.endswith("/.default"):
            raise OAuthError(400, "invalid_scope", 1002012, f"The provided value for scope {scope} is not valid. Client credential flows "
                             "must have a scope value with /.default suffixed to the resource identifier (application ID URI).")
        resource = scope.removesuffix(".default").rstrip("/")
        if not resource.startswith("https://"):
            raise OAuthError(400, "invalid_resource", 500011, f"The resource principal named {resource} was not found in the tenant named "
                             f"{tenant}.")
        if form.get("client_secret"):
            self._secret(application, form["client_secret"])
        elif form.get("client_assertion_type") == ASSERTION:
            self._assertion(application, form.get("client_assertion", ""), endpoint)
        else:
            raise OAuthError(401, "invalid_client", 7000216, "'client_assertion', 'client_secret' or 'request' is required for the "
                             "'client_credentials' grant type.")
        return {"token_type": "Bearer", "expires_in": self.seconds, "ext_expires_in": self.seconds,
                "access_token": self.issue(application, resource)}

    def issue(self, application: dict[str, Any], audience: str) -> str:
        """A token for ``audience``, valid for ``seconds``."""
        now = int(time.time())
        return jwt.encode({"aud": audience, "iss": f"https://sts.windows.net/{application['tenant']}/", "iat": now, "nbf": now,
                           "exp": now + self.seconds, "appid": application["client_id"], "oid": application["object_id"],
                           "tid": application["tenant"], "ver": "1.0", "uti": str(uuid.uuid4())}, self.key, algorithm="HS256")

    def principal(self, header: str, tenant: str, authority: str) -> Principal:
        """Who sent this Authorization header, of the tenant that the subscription belongs to. Raises :class:`Refusal` (401)."""
        challenge = f'Bearer authorization_uri="{authority}/{tenant}", error="invalid_token", error_description="'

        def refuse(code: str, text: str) -> Refusal:
            return Refusal(401, code, text, {"WWW-Authenticate": f'{challenge}{text}"'})

        if not header:
            raise refuse("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise refuse("AuthenticationFailed", "Authentication failed. The 'Authorization' header is provided in an invalid format.")
        try:
            claims = jwt.decode(token, self.key, algorithms=["HS256"], options={"verify_aud": False, "verify_exp": False})
        except jwt.PyJWTError:
            raise refuse("InvalidAuthenticationToken", "The access token is invalid.") from None
        if claims["exp"] <= time.time():
            raise refuse("ExpiredAuthenticationToken",
                         f"The access token expiry UTC time '{_clock(claims['exp'])}' is earlier than current UTC time "
                         f"'{_clock(time.time())}'.")
        if str(claims["aud"]).rstrip("/") != self.audience:
            raise refuse("InvalidAuthenticationTokenAudience",
                         f"The access token has been obtained for wrong audience or resource '{claims['aud']}'. It should exactly match "
                         "with "
                         f"one of the allowed audiences '{self.audience}/','{self.audience}'.")
        if claims["tid"] != tenant:
            raise refuse("InvalidAuthenticationTokenTenant",
                         f"The access token is from the wrong issuer 'https://sts.windows.net/{claims['tid']}/'. It must match the tenant "
                         f"'https://sts.windows.net/{tenant}/' associated with this subscription. Please use the authority (URL) "
                         f"'{authority}/{tenant}' to get the token.")
        return Principal(claims["appid"], claims["oid"], claims["tid"])

    def _tenant(self, tenant: str) -> None:
        if tenant not in self.tenants:
            raise OAuthError(400, "invalid_request", 90002,
                             f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the "
                             "correct cloud. Check with your subscription administrator, this may happen if there are no active "
                             "subscriptions for the tenant.")

    @staticmethod
    def _secret(application: dict[str, Any], given: str) -> None:
        known = application.get("secret") or ""
        if not known or not hmac.compare_digest(known.encode(), given.encode()):
            raise OAuthError(401, "invalid_client", 7000215,
                             "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not "
                             f"the client secret ID, for a secret added to app '{application['client_id']}'.")
        if application.get("secret_expires", time.time() + 1) <= time.time():
            raise OAuthError(401, "invalid_client", 7000222,
                             f"The provided client secret keys for app '{application['client_id']}' are expired. Visit the Azure portal to "
                             "create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for "
                             "added security: https://aka.ms/certCreds.")

    def _assertion(self, application: dict[str, Any], assertion: str, endpoint: str) -> None:
        try:
            header = jwt.get_unverified_header(assertion)
            issuer = jwt.decode(assertion, options={"verify_signature": False}).get("iss")
        except jwt.PyJWTError as error:
            raise OAuthError(400, "invalid_request", 50027, f"JWT token is invalid or malformed: {error}.") from error
        if issuer == application["client_id"]:
            self._certificate(application, assertion, header, endpoint)
        else:
            self._federated(application, assertion, str(issuer))

    @staticmethod
    def _certificate(application: dict[str, Any], assertion: str, header: dict[str, Any], endpoint: str) -> None:
        pem = application.get("certificate")
        certificate = x509.load_pem_x509_certificate(pem.encode()) if pem else None
        digests = (hashes.SHA1(), hashes.SHA256())  # noqa: S303 - x5t is SHA-1 by definition (RFC 7515)
        prints = {_encoded(certificate.fingerprint(digest)) for digest in digests} if certificate else set()
        sent = {str(header[name]).rstrip("=") for name in ("x5t", "x5t#S256") if name in header}
        if certificate is None or not sent & prints:
            raise OAuthError(401, "invalid_client", 700027, "The certificate with identifier used to sign the client assertion is not "
                             "registered on application. [Reason - The key was not found.]")
        try:
            jwt.decode(assertion, certificate.public_key(), algorithms=["RS256", "PS256"], audience=endpoint,  # type: ignore[arg-type]
                       options={"require": ["exp", "sub", "jti"]})
        except jwt.PyJWTError as error:
            raise OAuthError(401, "invalid_client", 700027, f"Client assertion failed signature validation. [Reason - {error}]") from error

    @staticmethod
    def _federated(application: dict[str, Any], assertion: str, issuer: str) -> None:
        trusted = application.get("federated")
        if not trusted or issuer != trusted["issuer"]:
            raise OAuthError(401, "invalid_client", 700211, "No matching federated identity record found for presented assertion issuer "
                             f"'{issuer}'.")
        try:
            claims = jwt.decode(assertion, trusted["public_key"], algorithms=["RS256", "ES256"], audience=trusted["audience"])
        except jwt.ExpiredSignatureError as error:
            raise OAuthError(401, "invalid_client", 700024, "Client assertion is not within its valid time range.") from error
        except jwt.InvalidAudienceError as error:
            raise OAuthError(401, "invalid_client", 700212, "No matching federated identity record found for presented assertion audience."
                             ) from error
        except jwt.PyJWTError as error:
            raise OAuthError(401, "invalid_client", 50013, "Assertion failed signature validation.") from error
        if claims.get("sub") != trusted["subject"]:
            raise OAuthError(401, "invalid_client", 700213, "No matching federated identity record found for presented assertion subject "
                             f"'{claims.get('sub')}'.")


def _encoded(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _clock(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return f"{moment.month}/{moment.day}/{moment:%Y} {moment:%I:%M:%S %p}"
