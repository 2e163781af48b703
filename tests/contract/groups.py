"""The groups of the recording."""

from __future__ import annotations

# Each recorded label belongs to exactly one group, and each group is one test.
GROUPS: dict[str, tuple[str, ...]] = {
    "get": ("get/*",),
    "auth": ("auth/*",),
    "attest": ("attest/*",),
    "token": ("token/*", "default-policy/*"),
    "admin": ("admin/set-resource/*", "admin/*-resource", "admin/list-resources", "admin/unknown-plugin*", "admin/*-prefix",
              "admin/prefix-only", "healthz"),
    "policy": ("admin/get-resource-policy/*", "admin/set-resource-policy/[!a]*", "admin/set-resource-policy/allow-*",
               "bad-policy/*", "policy/*"),
    "allow-all": ("allow-all/*",),
    "jwk": ("jwk/*",),
    "initdata": ("initdata/*",),
    "device": ("device/*",),
    "rv": ("rv/*", "affirming/*", "admin/set-resource-policy/affirming"),
    "attpol": ("attpol/*", "metrics"),
}

# The recording of product 0.3 has labels of its own.
GROUPS_03: dict[str, tuple[str, ...]] = {
    "get": ("get/*", "auth/*"),
    "attest": ("attest/*", "device/*"),
    "token": ("token/*", "default-policy/*"),
    "admin": ("admin/*", "unknown-plugin-*", "prefix-only", "url/*", "rv-rest/*"),
    "attpol": ("attpol/*",),
    "respol": ("respol/*",),
    "allow-all": ("allow-all/*",),
    "key": ("key/*", "jwk/*"),
    "rv": ("rv/*", "affirming/*"),
    "reload": ("reload/*",),
}
