"""initdata.py. Vectors: trustee.md 6.1–6.4, deployment.md 6.4, trustee-verified.md 3.10."""

from __future__ import annotations

import base64
import datetime
import gzip
import random
import tomllib
import zlib
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import initdata, kata_policy, keys, releases
from ansible_collections.confidential.containers.plugins.module_utils.actions import initdata_build
from ansible_collections.confidential.containers.plugins.module_utils.context import Context
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

#: trustee.md 6.4, 219 bytes.
TRUSTEE = b"""version = "0.1.0"
algorithm = "sha256"

[data]
"aa.toml" = '''
[token_configs]
[token_configs.kbs]
url = "http://kbs.example.com:8080"
'''

"cdh.toml" = '''
[kbc]
name = "cc_kbc"
url = "http://kbs.example.com:8080"
'''
"""
GZIPPED = ("H4sIAAAAAAACA43NTQrDIBCG4f2cIszGnUkKLSHQkwQJE2Oj+BfUlh6/umxXXX7vwDMvlbKJobt3OPCRDwjkjphM0b61rOlyvSHAslMhAUjES/QO65ExBkuJVoVV"
           "xvAwRxY/m9uttmdyjdKlnHPf18TVm/zpFJfRz9Mw1afNApS7/tbtJgUE8qoBUq5149/eB1lASMDbAAAA")
#: deployment.md 6.4, 295 bytes.
DEPLOYMENT = b"""algorithm = "sha256"
version = "0.1.0"

[data]
"aa.toml" = '''
[token_configs]
[token_configs.kbs]
url = "https://kbs.apps.example.com"
'''

"cdh.toml" = '''
socket = 'unix:///run/confidential-containers/cdh.sock'
credentials = []

[kbc]
name = "cc_kbc"
url = "https://kbs.apps.example.com"
'''
"""
URL = "https://kbs.example.com"
HOST = "kbs.example.com"
NOW = datetime.datetime.now(datetime.timezone.utc)
CA_KEY, CA = keys.new_ca("test CA", 3650, NOW)
_, OTHER_CA = keys.new_ca("other CA", 3650, NOW)
OSC = releases.OSC_RELEASES


def build(**options: Any) -> dict[str, Any]:
    """What the module does: everything that is refused, from whichever rule."""
    params = {name: spec.get("default") for name, spec in initdata_build.ARGUMENT_SPEC.items()}
    return initdata_build.run({**params, "release": "1.11/1.0", "kbs_url": URL, "kbs_ca": CA, **options}, Context())


def refused(**options: Any) -> str:
    with pytest.raises(CocoError) as caught:
        build(**options)
    assert caught.value.todo, "no next step"
    return str(caught.value)


def files(**change: str | None) -> dict[str, str]:
    """Good files, with changes (None leaves one out); names with _ for the dot."""
    good: dict[str, str | None] = {"aa_toml": initdata.aa_toml(URL, CA), "cdh_toml": initdata.cdh_toml(URL, CA), **change}
    return {name.replace("_", "."): text for name, text in good.items() if text is not None}


def codes(given: dict[str, str], algorithm: str = "sha256", version: str = "0.1.0", severity: str = "error") -> set[str]:
    found = initdata.check(given, algorithm, version)
    assert all(finding["message"] and finding["hint"] for finding in found)
    return {finding["code"] for finding in found if finding["severity"] == severity}


# Vectors ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("toml", "size", "algorithm", "digest"), [
    (TRUSTEE, 219, "", "d7841f044a07ffac7205f00a48d83e0ab0a243dd8d8da32503224d7ed8ccbfc9"),
    (TRUSTEE, 219, "sha384", "98004ce1f8b60804d22d5a7a1a09241616c334e522f41f96e83c0f3d7e779fc2db89f91b839972ae3e876ac59d992422"),
    (TRUSTEE, 219, "sha512", "6251173e60336042cf77f9d6059568af24cb8352a17d6b8f3222eb8c8e42404cfbad1f021acc7326ee10d7903dc86c09"
     "219c08a2f77163984ac0402353230d0d"),
    (DEPLOYMENT, 295, "", "7c6d698d8a389c82f7a500ed670191e98a876f81bf41301386461346cee423e2"),
    (DEPLOYMENT[:-1], 294, "", "a309086846f54be63d2c67ff2628b0d4e3d2d52421d24b59ad9c6152d9bc3f98"),
    (DEPLOYMENT.replace(b"sha256", b"sha384"), 295, "",
     "225b1a672a7b1f3668b99864f8aa73994bc861c96d69b9fa8b176584811a43d2ecebf9f235724d72a2b4f060b55f9385"),
])
def test_digest_over_the_exact_bytes(toml: bytes, size: int, algorithm: str, digest: str) -> None:
    assert len(toml) == size
    assert initdata.digest(toml, algorithm).hex() == digest


def test_gzip_vector() -> None:
    """trustee.md 6.4; other compressors give other bytes of the same document, so the document is compared."""
    assert initdata.decode(GZIPPED) == (TRUSTEE, "gzip+base64")
    ours = initdata.encode(TRUSTEE, "gzip+base64")
    assert initdata.same(ours, GZIPPED)
    assert base64.b64decode(ours)[:8] == base64.b64decode(GZIPPED)[:8], "no time and no name in the header"
    assert ours == initdata.encode(TRUSTEE, "gzip+base64")


@pytest.mark.parametrize("name", list(OSC))
def test_encoding_of_each_release(name: str) -> None:
    """trustee.md 6.2: plain base64 up to OSC 1.9; standard alphabet, padded, one line."""
    text = initdata.encode(TRUSTEE, OSC[name].initdata_encoding)
    raw = base64.b64decode(text, validate=True)
    assert (raw if name in ("1.8", "1.9") else gzip.decompress(raw)) == TRUSTEE
    assert initdata.decode(text) == (TRUSTEE, OSC[name].initdata_encoding)
    assert initdata.check_encoded(text, OSC[name]) == []
    for other in OSC.values():
        found = {finding["code"] for finding in initdata.check_encoded(text, other)}
        assert found == (set() if other.initdata_encoding == OSC[name].initdata_encoding else {"encoding"})


# What is built --------------------------------------------------------------------------------------------------------

def test_built_document() -> None:
    built = build(policy=kata_policy.render(), image_security_policy_uri="kbs:///default/security-policy/signed")
    table = tomllib.loads(built["toml"])
    assert (table["algorithm"], table["version"], list(table["data"])) == ("sha256", "0.1.0", ["aa.toml", "cdh.toml", "policy.rego"])
    agent, hub = (tomllib.loads(table["data"][name]) for name in ("aa.toml", "cdh.toml"))
    assert agent == {"token_configs": {"kbs": {"url": URL, "cert": CA}}}
    assert hub == {"socket": "unix:///run/confidential-containers/cdh.sock", "credentials": [],
                   "kbc": {"name": "cc_kbc", "url": URL, "kbs_cert": CA},
                   "image": {"image_security_policy_uri": "kbs:///default/security-policy/signed"}}
    assert table["data"]["policy.rego"] == kata_policy.render()
    assert built["toml"].endswith("'''\n")
    assert "\r" not in built["toml"]
    assert built["findings"] == []
    assert build(policy=kata_policy.render(), image_security_policy_uri="kbs:///default/security-policy/signed") == built


def test_a_documents_bytes_do_not_depend_on_the_order_of_options() -> None:
    first = initdata.document({"policy.rego": "c", "zz": "d", "cdh.toml": "b", "aa.toml": "a", "bb": "e"})
    assert first == initdata.document({"bb": "e", "aa.toml": "a", "zz": "d", "cdh.toml": "b", "policy.rego": "c"})
    assert list(tomllib.loads(first.decode())["data"]) == ["aa.toml", "cdh.toml", "policy.rego", "bb", "zz"]


@pytest.mark.parametrize("text", [
    "", "\n", "a", "a\n", "\na\n", "it's '' here\n", "'''\n", "ends in '", "back\\slash \"quotes\" \"\"\"\n", "tab\there\n", "\r\n",
    "\x00\x1f\x7f", "ünï\u2028\U0001f600\n", "a'''b\\n\"\"\"c\r\n",
])
def test_a_literal_means_its_text(text: str) -> None:
    assert tomllib.loads(f"x = {initdata.literal(text)}\n") == {"x": text}


def test_literals_of_random_text() -> None:
    chance = random.Random(7)
    for _ in range(500):
        text = "".join(chance.choice("'\"\\\n\r\t ab#=[]\x01ü") for _ in range(chance.randrange(12)))
        assert tomllib.loads(f"x = {initdata.literal(text)}\n") == {"x": text}, repr(text)


def test_given_files() -> None:
    built = tomllib.loads(build(files={"mine.txt": "x\n", "policy.rego": kata_policy.render()}, policy="package other\n")["toml"])
    assert built["data"]["mine.txt"] == "x\n"
    assert built["data"]["policy.rego"] == kata_policy.render(), "a given file wins"
    assert "mine.txt is no text" in refused(files={"mine.txt": 1}).replace("content of ", "")
    assert initdata.build({"kbs_url": URL, "kbs_ca": CA, "files": None}) == initdata.build({"kbs_url": URL, "kbs_ca": CA})
    assert tomllib.loads(initdata.document({}).decode())["data"] == {}
    assert tomllib.loads(initdata.document({"aa.toml": "a"}).decode())["data"] == {"aa.toml": "a"}


def test_extra_keys_of_the_image_table() -> None:
    extra = {"registry_configuration_uri": "kbs:///default/registry/conf", "extra_root_certificates": [CA], "empty": "",
             "max_concurrent_layer_downloads_per_image": 3, "image_pull_proxy": {"https_proxy": "http://p:3128", "no.proxy": "a b"}}
    hub = tomllib.loads(initdata.cdh_toml(URL, "", extra))
    assert "kbs_cert" not in hub["kbc"]
    assert hub["image"] == {key: value for key, value in extra.items() if key != "empty"}


# What is refused ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("algorithm", ["sha-384", "SHA384", "SHA256", "sm3", "md5", "sha1"])
def test_unknown_algorithm(algorithm: str) -> None:
    """trustee-verified.md 3.10; trustee.md 6.1: the IANA spelling is accepted nowhere."""
    assert "algorithm" in codes(files(), algorithm)
    assert algorithm in refused(algorithm=algorithm)
    with pytest.raises(CocoError, match=algorithm):
        initdata.digest(TRUSTEE, algorithm)


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
def test_longer_digests_are_cut_and_said_to_be(algorithm: str) -> None:
    assert codes(files(), algorithm) == set()
    assert codes(files(), algorithm, severity="warning") == {"algorithm-truncated"}
    assert len(bytes.fromhex(build(algorithm=algorithm)["host_data"])) == 32


@pytest.mark.parametrize("version", ["0.2.0", "", "0.1", "9.9.9"])
def test_unknown_version(version: str) -> None:
    assert codes(files(), version=version) == {"version"}


@pytest.mark.parametrize("name", ["aa_toml", "cdh_toml"])
def test_missing_file(name: str) -> None:
    assert codes(files(**{name: None})) == {f"missing-{name.replace('_', '.')}"}
    toml = initdata.document(files(**{name: None})).decode()
    assert name.replace("_", ".") in refused(toml=toml, kbs_url=None, kbs_ca=None)


def test_nothing_given() -> None:
    message = refused(kbs_url=None, kbs_ca=None)
    assert "aa.toml is missing" in message
    assert "cdh.toml is missing" in message


@pytest.mark.parametrize(("days", "code"), [(-1, "expired"), (30, "")])
def test_expired_certificate(days: int, code: str) -> None:
    made = NOW + datetime.timedelta(days=days - 30)
    _, old = keys.new_ca("old CA", 30, made)
    if code:
        assert code in refused(kbs_ca=old)
    else:
        assert build(kbs_ca=old)["pcr8"]


def test_certificate_of_the_future() -> None:
    _, early = keys.new_ca("early CA", 30, NOW + datetime.timedelta(days=3))
    assert "valid from" in refused(kbs_ca=early)


def test_host_not_in_the_certificate() -> None:
    _, leaf = keys.new_leaf(CA_KEY, CA, ["other.example.com"], 30, NOW)
    assert f"does not name the host {HOST}" in refused(kbs_ca=leaf)
    _, right = keys.new_leaf(CA_KEY, CA, [HOST], 30, NOW)
    assert build(kbs_ca=right)["pcr8"]


@pytest.mark.parametrize("text", ["no certificate", base64.b64encode(CA.encode()).decode(), CA[:200]])
def test_certificate_that_is_none(text: str) -> None:
    assert "certificate" in refused(kbs_ca=text)


def test_http_url_with_a_certificate() -> None:
    assert "certificate for an http URL" in refused(kbs_url="http://kbs.example.com")
    assert codes({"aa.toml": initdata.aa_toml("http://kbs.example.com"), "cdh.toml": initdata.cdh_toml("http://kbs.example.com")}) == set()
    assert "http" in codes({"aa.toml": initdata.aa_toml("http://k"), "cdh.toml": initdata.cdh_toml("http://k")}, severity="warning")


@pytest.mark.parametrize("url", [f"{URL}/kbs/v0", f"{URL}/kbs", f"{URL}?a=b", f"{URL}/#x", f"{URL}//"])
def test_url_with_a_path(url: str) -> None:
    assert "has a path" in refused(kbs_url=url)


@pytest.mark.parametrize("url", ["kbs.example.com", "ftp://kbs.example.com", "https://", "https://<url>:<port>", "https://kbs .com",
                                 "https://kbs.example.com:port", "https://kbs.example.com:99999"])
def test_url_that_is_none(url: str) -> None:
    assert "the URL in aa.toml is" in refused(kbs_url=url)


def test_url_with_a_user() -> None:
    assert "names a user" in refused(kbs_url="https://me:secret@kbs.example.com")


@pytest.mark.parametrize(("url", "code"), [(f"{URL}/", "url-slash"), (f"{URL}:443", "url-port"), ("http://kbs.example.com:80", "url-port")])
def test_questionable_urls(url: str, code: str) -> None:
    given = {"aa.toml": initdata.aa_toml(url), "cdh.toml": initdata.cdh_toml(url)}
    assert codes(given) == set()
    assert code in codes(given, severity="warning")


def test_url_with_another_port_is_good() -> None:
    given = {"aa.toml": initdata.aa_toml(f"{URL}:8443", CA), "cdh.toml": initdata.cdh_toml(f"{URL}:8443", CA)}
    assert initdata.check(given, "sha256") == []


def test_different_urls() -> None:
    other = initdata.cdh_toml("https://other.example.com", CA)
    assert codes(files(cdh_toml=other)) == {"urls-differ"}
    message = refused(cdh_toml=other)
    assert URL in message
    assert "https://other.example.com" in message


def test_different_certificates() -> None:
    assert codes(files(cdh_toml=initdata.cdh_toml(URL, OTHER_CA))) == {"certificates-differ"}
    assert codes(files(cdh_toml=initdata.cdh_toml(URL))) == {"certificates-differ"}


@pytest.mark.parametrize(("change", "code"), [
    ({"aa_toml": "[token_configs.kbs]\n"}, "no-url-aa"), ({"cdh_toml": "[kbc]\nname = 'cc_kbc'\n"}, "no-url-cdh"),
    ({"aa_toml": "[token_configs\n"}, "toml-aa.toml"), ({"cdh_toml": "```toml\n[kbc]\n```\n"}, "code-fence"),
    ({"cdh_toml": initdata.cdh_toml(URL, CA).replace("cc_kbc", "kbs")}, "kbc-name"),
    ({"aa_toml": initdata.aa_toml(URL, CA).replace("cert =", "kbs_cert =")}, "certificate-key"),
    ({"cdh_toml": initdata.cdh_toml(URL, CA).replace("kbs_cert =", "cert =")}, "certificate-key"),
    ({"aa_toml": initdata.aa_toml(URL, CA + CA_KEY)}, "private-key"),
])
def test_files_a_guest_cannot_use(change: dict[str, str], code: str) -> None:
    assert code in codes(files(**change))


def test_files_a_guest_ignores() -> None:
    assert codes({**files(), "mine.txt": "x"}, severity="warning") == {"ignored-file"}
    inline = initdata.cdh_toml(URL, CA) + "[image.registry_config]\nx = 1\n"
    assert codes(files(cdh_toml=inline), severity="warning") == {"registry-config"}


def test_the_agent_policy_is_linted_in_the_guests_dialect() -> None:
    bare = kata_policy.render() + "\nExecProcessRequest {\n\tinput.x == 1\n}\n"
    found = {name: {f["code"] for f in initdata.check({**files(), "policy.rego": bare}, "sha256", osc=OSC[name])} for name in OSC}
    assert "body-without-if" in found["1.13"]
    assert "body-without-if" not in found["1.11"]
    assert "package" in codes({**files(), "policy.rego": "package policy\n"})


def noise(size: int) -> str:
    chance = random.Random(1)
    return "".join(chance.choice("0123456789abcdef") for _ in range(size))


@pytest.mark.parametrize(("size", "code"), [
    (1000, ""), (31744, ""), (31745, "warning"), (48128, "warning"), (48129, "error"), (300000, "error"),
])
def test_size(size: int, code: str) -> None:
    """trustee.md 6.2: Azure takes 64 KiB of base64 as user data, an object 256 KiB of annotations; the adaptor adds its own."""
    found = initdata.check_size("x" * size)
    assert [finding["severity"] for finding in found] == ([code] if code else [])


def test_too_large() -> None:
    assert "too-large" in {f["code"] for f in initdata.check_size("x" * 262145)}
    assert "annotations" in initdata.check_size("x" * 262145)[0]["message"]
    assert "Azure" in initdata.check_size("x" * 262144)[0]["message"]
    assert "Azure" in refused(extra={"sigstore_config": noise(200000)})


# Reading --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text", [
    "no base64!", TRUSTEE.decode(), GZIPPED[:100], base64.urlsafe_b64encode(b"\xff\xfe\xfb" * 20).decode(),
    base64.b64encode(gzip.compress(TRUSTEE)[:-8]).decode(),
    base64.b64encode(gzip.compress(TRUSTEE)[:-8] + bytes(4) + gzip.compress(TRUSTEE)[-4:]).decode(),
])
def test_texts_that_cannot_be_decoded(text: str) -> None:
    """trustee-verified.md 3.10: raw TOML, truncated data, URL-safe alphabet, bad checksum."""
    with pytest.raises(CocoError) as caught:
        initdata.decode(text)
    assert caught.value.todo


def test_a_decompression_bomb_is_not_unpacked() -> None:
    assert initdata.LARGEST_DOCUMENT == 16 * 2**20
    bomb = base64.b64encode(gzip.compress(bytes(initdata.LARGEST_DOCUMENT + 10), 9)).decode()
    with pytest.raises(CocoError, match="larger than"):
        initdata.decode(bomb)


def test_what_guests_refuse_although_it_can_be_read() -> None:
    """trustee-verified.md 3.10: line wraps are refused, a second gzip member is not read, padding may be missing."""
    wrapped = GZIPPED[:76] + "\n" + GZIPPED[76:] + "\n"
    assert initdata.decode(wrapped)[0] == TRUSTEE
    assert {f["code"] for f in initdata.check_encoded(wrapped, OSC["1.11"])} == {"blanks"}
    two = base64.b64encode(gzip.compress(TRUSTEE, mtime=0) + gzip.compress(b"[more]", mtime=0)).decode()
    assert initdata.decode(two)[0] == TRUSTEE
    assert {f["code"] for f in initdata.check_encoded(two, OSC["1.11"])} == {"gzip-members"}
    plain = base64.b64encode(TRUSTEE + b"#").decode()
    assert plain.endswith("=")
    assert {f["code"] for f in initdata.check_encoded(plain.rstrip("="), OSC["1.9"])} == {"padding"}


def test_zlib_is_no_gzip() -> None:
    text = base64.b64encode(zlib.compress(TRUSTEE)).decode()
    assert {f["code"] for f in initdata.check_encoded(text, OSC["1.11"])} == {"encoding"}
    with pytest.raises(CocoError, match="no TOML"):
        initdata.parse(initdata.decode(text)[0])


def test_same_document() -> None:
    other = base64.b64encode(gzip.compress(TRUSTEE, 1, mtime=12345)).decode()
    assert other != GZIPPED
    assert initdata.same(other, GZIPPED)
    assert not initdata.same(GZIPPED, base64.b64encode(TRUSTEE).decode()), "another encoding is another thing to a guest"
    assert not initdata.same(GZIPPED, initdata.encode(TRUSTEE + b"\n", "gzip+base64"))
    assert initdata.same("", "")
    assert not initdata.same("?", GZIPPED)


@pytest.mark.parametrize(("toml", "match"), [
    (b"version = ", "no TOML"), (b"\xff\xfe", "no TOML"), (b'{"version": "0.1.0"}', "no TOML"), (b'version = "0.1.0"\n', r"no \[data\]"),
    (b'data = "x"\n', r"no \[data\]"), (b"[data]\na = 1\n", "data.* a is no text"), (b"", "nothing"),
    (b"[data]\na = 'x'\na = 'y'\n", "no TOML"),
])
def test_documents_that_are_none(toml: bytes, match: str) -> None:
    with pytest.raises(CocoError, match=match) as caught:
        initdata.parse(toml)
    assert caught.value.todo


def test_bytes_that_guests_accept() -> None:
    """trustee-verified.md 3.10: a BOM and CRLF are accepted, and hashed as they are (234 bytes)."""
    crlf = TRUSTEE.replace(b"\n", b"\r\n")
    assert len(crlf) == 234
    assert set(initdata.parse(crlf)["data"]) == {"aa.toml", "cdh.toml"}
    assert initdata.digest(crlf) != initdata.digest(TRUSTEE)
    assert initdata.parse(b"\xef\xbb\xbf" + TRUSTEE)["algorithm"] == "sha256"


def test_reading_url_and_certificates() -> None:
    assert initdata.kbs_url(files()) == URL
    assert initdata.kbs_url({"aa.toml": "["}) == ""
    assert {name: text.strip() for name, text in initdata.certificates(files()).items()} == {"aa.toml": CA.strip(), "cdh.toml": CA.strip()}
    assert initdata.certificates({"aa.toml": "["}) == {"aa.toml": "", "cdh.toml": ""}
