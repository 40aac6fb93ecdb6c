"""People over HTTP, against the real server: invitations, log-in, proof, tokens, keys, and what never leaks."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from people import API_KEY, BY_KEY, PASSWORD, Browser, browser_of, invite, join, let_proofs_grow_old, log_in, make_token
from reco3.protocol.envelope import pre_authentication_encoding
from reco3.signing.proofs import key_proof_bytes
from servers import Answer, ServerProcess
from soft_authenticator import USER_PRESENT, SoftAuthenticator, b64url, from_b64url

SERVER_ENVIRONMENT = {"API_KEY": API_KEY}


def code_of(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["error"]


def register(browser: Browser, passkey: SoftAuthenticator, label: str = "phone") -> Answer:
    options = browser.post("/api/me/keys/options", {"kind": "webauthn"})
    assert options.status == 200, options.body
    attestation = passkey.create(options.json["challenge"])
    return browser.post("/api/me/keys", {"kind": "webauthn", "attestation": attestation, "label": label})


def soft_authenticator(server: ServerProcess, **options: Any) -> SoftAuthenticator:
    return SoftAuthenticator(origin=f"http://localhost:{server.port}", **options)


def log_in_with(server: ServerProcess, passkey: SoftAuthenticator, host: str = "localhost") -> Answer:
    here = {"Host": f"{host}:{server.port}", "Origin": f"http://{host}:{server.port}"}
    options = server.post("/api/session/passkey/options", **here)
    assert options.status == 200, options.body
    return server.post("/api/session/passkey", {"assertion": passkey.get(options.json["challenge"])}, **here)


def test_an_invited_person_comes_in_and_is_listed(server: ServerProcess) -> None:
    answer = server.post("/api/operators", {"name": "anna", "role": "approver"}, **BY_KEY)

    assert set(answer.json) == {"name", "role", "created_by", "created_at", "expires_at", "token", "link"}
    assert answer.json["link"] == f"{server.base_url}/r3#invitation={answer.json['token']}"
    invited = server.get("/api/operators", **BY_KEY).json
    assert [one["name"] for one in invited["invitations"]] == ["anna"]
    assert answer.json["token"] not in json.dumps(invited)

    browser = browser_of(
        server.post("/api/invitations/accept", {"token": answer.json["token"], "password": PASSWORD}), server
    )
    who = browser.get("/api/session").json
    assert (who["name"], who["role"], who["how"]) == ("anna", "approver", "session")
    assert who["proved_until"] is not None
    [listed] = [one for one in server.get("/api/operators", **BY_KEY).json["operators"] if one["name"] == "anna"]
    assert (listed["role"], listed["disabled"], listed["has_password"], listed["keys"]) == ("approver", False, True, 0)
    assert code_of(server.post("/api/invitations/accept", {"token": answer.json["token"]})) == (
        403,
        "invitation_refused",
    )


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "Bad Name", "role": "viewer"}, 400, "bad_request"),
        ({"name": "admin", "role": "viewer"}, 400, "bad_request"),
        ({"name": "x"}, 400, "bad_request"),
        ({"name": "x", "role": "god"}, 400, "bad_request"),
        ({"name": ["x"], "role": "viewer"}, 400, "bad_request"),
        ([], 400, "bad_request"),
    ],
)
def test_a_wish_that_is_none_is_refused_by_its_field(server: ServerProcess, body: Any, status: int, code: str) -> None:
    assert code_of(server.post("/api/operators", body, **BY_KEY)) == (status, code)


def test_a_weak_password_is_refused_with_the_reason(server: ServerProcess) -> None:
    token = invite(server, "wendy", "viewer")

    answer = server.post("/api/invitations/accept", {"token": token, "password": "password1234"})

    assert code_of(answer) == (400, "weak_password")
    assert "password1234" not in answer.json["message"]


def test_the_password_opens_a_session_like_the_keys_and_a_wrong_one_tells_nothing(server: ServerProcess) -> None:
    join(server, "peter", "operator")

    right = server.post("/api/session", {"name": " Peter ", "password": PASSWORD})
    wrong = [
        server.post("/api/session", {"name": name, "password": "guess"}) for name in ("peter", "nobody-of-that-name")
    ]

    assert right.json == {"name": "peter", "role": "operator", "how": "session"}
    assert "HttpOnly" in right.headers["set-cookie"]
    assert "samesite=strict" in right.headers["set-cookie"].lower()
    assert {(answer.status, answer.body, tuple(sorted(set(answer.headers) - {"date"}))) for answer in wrong} == {
        (401, wrong[0].body, tuple(sorted(set(wrong[0].headers) - {"date"})))
    }


@pytest.mark.parametrize("body", [{}, {"name": "peter"}, {"password": PASSWORD}, {"name": 1, "password": PASSWORD}])
def test_half_a_log_in_is_a_bad_request(server: ServerProcess, body: dict[str, Any]) -> None:
    assert code_of(server.post("/api/session", body)) == (400, "bad_request")


def test_a_person_who_is_disabled_is_out_at_once_with_sessions_stream_and_tokens(server: ServerProcess) -> None:
    browser = join(server, "dora", "approver")
    token = {"Authorization": f"Bearer {make_token(browser, 'viewer')}"}
    stream = server.connection()
    stream.request("GET", "/api/live", headers=browser.headers)
    events = stream.getresponse()
    assert events.readline().startswith(b"event: hello")

    changed = server.request("PATCH", "/api/operators/dora", body={"disabled": True}, headers=BY_KEY)

    assert changed.json == {"name": "dora", "role": "approver", "disabled": True}
    assert browser.get("/api/session").status == 401
    assert server.get("/api/session", **token).status == 401
    assert b"event: changed" not in events.read()
    stream.close()
    server.request("PATCH", "/api/operators/dora", body={"disabled": False}, headers=BY_KEY)
    assert server.get("/api/session", **token).json["role"] == "viewer"
    assert browser.get("/api/session").status == 401


def test_nobody_changes_his_own_role_or_reaches_what_is_for_administrators(server: ServerProcess) -> None:
    browser = join(server, "olga", "operator")

    answers = [
        browser.send("PATCH", "/api/operators/olga", {"role": "admin"}),
        browser.post("/api/operators", {"name": "friend", "role": "admin"}),
        browser.get("/api/operators"),
        browser.get("/api/operators/admin/keys"),
    ]

    assert [code_of(answer) for answer in answers] == [(403, "forbidden")] * 4


@pytest.mark.parametrize("body", [{}, {"role": None}, {"disabled": "yes"}, {"disabled": 1}, {"role": "god"}])
def test_a_change_that_is_none_is_a_bad_request(server: ServerProcess, body: dict[str, Any]) -> None:
    answer = server.request("PATCH", "/api/operators/anybody", body=body, headers=BY_KEY)

    assert code_of(answer) == (400, "bad_request")


def test_a_token_is_shown_once_works_in_both_headers_and_ends_when_revoked(server: ServerProcess) -> None:
    browser = join(server, "toni", "operator")
    made = browser.post("/api/tokens", {"name": "nightly", "role": "viewer", "expires_in_days": 30}).json
    by_token = {"X-API-Key": made["token"]}

    assert server.get("/api/session", **by_token).json == {"name": "toni", "role": "viewer", "how": "token"}
    assert server.get("/api/session", Authorization=f"Bearer {made['token']}").json["how"] == "token"
    listed = browser.get("/api/tokens").json
    assert [(one["id"], one["name"], one["last_used_at"] is not None) for one in listed["tokens"]] == [
        (made["id"], "nightly", True)
    ]
    assert made["token"] not in json.dumps(listed)
    assert server.post("/api/agent-commands", {"agent_id": "x", "type": "SET_MODE"}, **by_token).status == 403
    assert code_of(browser.post("/api/tokens", {"name": "x", "role": "admin", "expires_in_days": 1})) == (
        403,
        "forbidden",
    )
    for days in (0, 366, "1", 1.5):
        wish = {"name": "x", "role": "viewer", "expires_in_days": days}
        assert code_of(browser.post("/api/tokens", wish)) == (400, "bad_request")

    assert browser.send("DELETE", f"/api/tokens/{made['id']}").status == 200
    assert server.get("/api/session", **by_token).status == 401
    assert code_of(browser.send("DELETE", f"/api/tokens/{made['id']}")) == (404, "token_not_found")


def test_a_token_makes_nothing_that_outlives_it(server: ServerProcess) -> None:
    token = {"X-API-Key": make_token(join(server, "tina", "admin"), "admin")}

    for method, path in (
        ("POST", "/api/tokens"),
        ("POST", "/api/me/keys/options"),
        ("POST", "/api/me/keys"),
        ("POST", "/api/me/password"),
        ("DELETE", "/api/me/keys/none"),
        ("DELETE", "/api/sessions/none"),
    ):
        answer = server.request(method, path, body={} if method == "POST" else None, headers=token)
        assert code_of(answer) == (403, "person_needed"), path


def test_a_passkey_is_registered_on_localhost_and_logs_in_without_a_name(server: ServerProcess) -> None:
    join(server, "lisa", "approver")
    browser = log_in(server, "lisa", host="localhost")
    passkey = soft_authenticator(server)

    registered = register(browser, passkey)

    assert registered.status == 200, registered.body
    assert registered.json["pin"] == f"lisa:webauthn:{passkey.public_key} {passkey.origin}"
    assert registered.json["fingerprint"].replace(" ", "") == registered.json["key_id"]
    assert browser.get("/api/me/keys").json["keys"] == [registered.json]
    assert server.get("/api/operators/lisa/keys", **BY_KEY).json["keys"] == [registered.json]
    opened = log_in_with(server, passkey)
    assert opened.json == {"name": "lisa", "role": "approver", "how": "session"}
    assert browser_of(opened, server, "localhost").get("/api/session").json["name"] == "lisa"
    assert code_of(log_in_with(server, SoftAuthenticator(origin=passkey.origin))) == (401, "unauthorized")

    assert browser.send("DELETE", f"/api/me/keys/{registered.json['key_id']}").status == 200
    assert code_of(log_in_with(server, passkey)) == (401, "unauthorized")


def test_the_holder_of_the_api_key_registers_a_key_file_as_admin(server: ServerProcess) -> None:
    challenge = server.post("/api/me/keys/options", {"kind": "ed25519"}, **BY_KEY).json["challenge"]
    private_key = Ed25519PrivateKey.generate()
    public_key = base64.b64encode(private_key.public_key().public_bytes_raw()).decode()
    proof = b64url(private_key.sign(key_proof_bytes(from_b64url(challenge))))

    wish = {"kind": "ed25519", "public_key": public_key, "proof": proof, "label": "laptop"}
    answer = server.post("/api/me/keys", wish, **BY_KEY)

    assert answer.json["pin"] == f"admin:ed25519:{public_key}"
    assert answer.json["origin"] is None
    assert code_of(server.post("/api/me/keys", wish, **BY_KEY)) == (400, "challenge_over")


def test_the_test_modes_admin_registers_a_passkey_and_logs_in_with_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    process = ServerProcess(tmp_path_factory.mktemp("test-mode"), RECO3_TEST_MODE="1").start()
    passkey = soft_authenticator(process)
    page = Browser(process, "", "localhost")

    registered = register(page, passkey)
    opened = log_in_with(process, passkey)

    assert registered.json["owner"] == "admin"
    assert opened.json == {"name": "admin", "role": "admin", "how": "session"}
    assert browser_of(opened, process, "localhost").get("/api/session").json["how"] == "session"
    process.stop()


def test_behind_a_tls_proxy_links_and_keys_are_those_of_the_page_at_https(server: ServerProcess) -> None:
    proxied = {"Host": "reco3.example.com", "X-Forwarded-Proto": "https", **BY_KEY}

    invited = server.post("/api/operators", {"name": "prox", "role": "viewer"}, **proxied).json
    options = server.post("/api/me/keys/options", **proxied).json

    assert invited["link"].startswith("https://reco3.example.com/r3#invitation=")
    assert options["rp"]["id"] == "reco3.example.com"


def test_on_an_ip_address_passkeys_are_refused_with_the_address_to_use_instead(server: ServerProcess) -> None:
    browser = join(server, "ipek", "approver")

    for answer in (
        server.post("/api/session/passkey/options"),
        browser.post("/api/me/keys/options"),
        browser.post("/api/me/keys/options", {"kind": "webauthn"}),
    ):
        assert code_of(answer) == (400, "passkey_needs_host_name")
        assert f"http://localhost:{server.port}/r3" in answer.json["message"]
    challenge = browser.post("/api/me/keys/options", {"kind": "webcrypto"}).json
    assert challenge["proof_type"] == "application/vnd.reco3.key-proof.v1"
    assert len(challenge["challenge"]) == 43


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "rsa"},
        {"kind": "webauthn", "label": "x"},
        {"kind": "webauthn", "label": "x", "attestation": {"rawId": "x", "type": "public-key", "response": {}}},
        {"kind": "ed25519", "public_key": "x", "proof": "=", "label": "x"},
        {"kind": "ed25519", "public_key": "x", "proof": "eA", "label": " "},
        {"kind": "ed25519", "public_key": "x" * 2_000, "proof": "eA", "label": "x"},
    ],
)
def test_what_is_no_key_is_a_bad_request(server: ServerProcess, body: dict[str, Any]) -> None:
    assert code_of(server.post("/api/me/keys", body, **BY_KEY)) == (400, "bad_request")


def test_a_page_of_another_site_can_neither_invite_nor_register(server: ServerProcess) -> None:
    browser = join(server, "csrf", "admin")
    evil = {**browser.headers, "Origin": "https://evil.example"}

    for path in ("/api/operators", "/api/me/keys", "/api/tokens", "/api/session/proof", "/api/session/passkey"):
        assert code_of(server.post(path, {}, **evil)) == (403, "cross_site")


def test_a_browser_that_was_left_open_proves_itself_before_it_approves_or_invites(server: ServerProcess) -> None:
    browser = join(server, "paul", "admin")
    passkey = soft_authenticator(server)
    at_localhost = log_in(server, "paul", host="localhost")
    register(at_localhost, passkey)
    let_proofs_grow_old(server)
    guarded = (
        ("/api/agent-commands/none/approve", {}),
        ("/api/operators", {"name": "zoe", "role": "viewer"}),
        ("/api/tokens", {"name": "x", "role": "viewer", "expires_in_days": 1}),
        ("/api/me/password", {"password": PASSWORD}),
    )

    for one in (browser, at_localhost):
        assert one.get("/api/session").json["proved_until"] < "2021"
        assert [code_of(one.post(path, body)) for path, body in guarded] == [(403, "proof_needed")] * 4
    assert server.post("/api/agent-commands/none/approve", {}, **BY_KEY).status == 404
    assert code_of(browser.post("/api/session/proof", {"password": "guess"})) == (403, "proof_refused")
    assert code_of(browser.post("/api/session/proof", {})) == (400, "bad_request")
    assert code_of(server.post("/api/session/proof", {"api_key": API_KEY}, **BY_KEY)) == (400, "no_session")

    assert browser.post("/api/session/proof", {"password": PASSWORD}).json["proved_until"] is not None
    challenge = at_localhost.post("/api/session/passkey/options").json["challenge"]
    assert at_localhost.post("/api/session/proof", {"assertion": passkey.get(challenge)}).status == 200

    for one in (browser, at_localhost):
        assert [one.post(path, body).status for path, body in guarded[:2]] == [404, 200]


def test_a_passkeys_signature_is_a_proof_by_itself_and_a_foreign_one_is_none(server: ServerProcess) -> None:
    join(server, "petra", "approver")
    browser, passkey = log_in(server, "petra", host="localhost"), soft_authenticator(server)
    key_id = register(browser, passkey).json["key_id"]
    server.say("/agent/heartbeat", {"metrics": {}})
    wish = {"agent_id": "pc-001", "type": "ROLLBACK", "payload": {}}
    approve = f"/api/agent-commands/{server.post('/api/agent-commands', wish, **BY_KEY).json['id']}/approve"
    let_proofs_grow_old(server)
    offer = browser.get(approve.replace("/approve", "/envelope")).json
    signed = pre_authentication_encoding(offer["payload_type"], from_b64url(offer["body"]))
    forged = soft_authenticator(server).approve(signed, key_id=key_id)

    assert code_of(browser.post(approve, {})) == (403, "proof_needed")
    assert code_of(browser.post(approve, {"signature": forged})) == (400, "bad_signature")
    absent = passkey.approve(signed, key_id=key_id, flags=USER_PRESENT)
    assert code_of(browser.post(approve, {"signature": absent})) == (400, "bad_signature")
    browser_key = {"kind": "webcrypto", "key_id": key_id, "sig": forged["sig"]}
    assert code_of(browser.post(approve, {"signature": browser_key})) == (403, "proof_needed")
    assert browser.post(approve, {"signature": passkey.approve(signed, key_id=key_id)}).json["status"] == "approved"


def test_a_person_lists_his_sessions_and_ends_the_one_on_a_lost_phone(server: ServerProcess) -> None:
    lost = join(server, "sina", "viewer")
    here = log_in(server, "sina")
    sessions = {one["current"]: one["id"] for one in here.get("/api/sessions").json["sessions"]}

    assert here.send("DELETE", f"/api/sessions/{sessions[False]}").status == 200

    assert lost.get("/api/session").status == 401
    assert here.get("/api/sessions").json["count"] == 1
    assert code_of(here.send("DELETE", f"/api/sessions/{sessions[False]}")) == (404, "session_not_found")


def test_the_last_administrator_stays(tmp_path_factory: pytest.TempPathFactory) -> None:
    process = ServerProcess(tmp_path_factory.mktemp("last-admin")).start()
    token = process.log_text().partition("#setup=")[2].split()[0]
    set_up = process.post("/api/setup", {"token": token, "password": PASSWORD}).json
    by_key = {"X-API-Key": set_up["api_key"]}

    for change in ({"disabled": True}, {"role": "viewer"}):
        refused = process.request("PATCH", "/api/operators/admin", body=change, headers=by_key)
        assert code_of(refused) == (409, "last_admin")
    assert log_in(process, "admin").get("/api/session").json["role"] == "admin"
    process.stop()


def test_no_secret_lies_in_the_files_the_log_or_the_audit(server: ServerProcess) -> None:
    secret = "thistle and 9 moors"
    invitation = invite(server, "sara", "admin")
    accepted = server.post("/api/invitations/accept", {"token": invitation, "password": secret})
    browser = browser_of(accepted, server)
    token = make_token(browser, "viewer")
    server.post("/api/session", {"name": "sara", "password": "a wrong " + secret})
    session = browser.cookie.partition("=")[2]

    stored = b"".join(path.read_bytes() for path in server.db_path.parent.iterdir() if path.name.startswith("reco3.db"))
    shown = server.get("/api/audit?limit=500", **BY_KEY).body + server.log_text().encode()

    for one in (secret, invitation, token, session, API_KEY):
        assert one.encode() not in stored
        assert one.encode() not in shown


def test_wrong_passwords_are_answered_429_with_the_time_to_wait(tmp_path_factory: pytest.TempPathFactory) -> None:
    process = ServerProcess(tmp_path_factory.mktemp("guesses"), API_KEY=API_KEY).start()
    guesses = [process.post("/api/session", {"name": "anna", "password": f"guess {n}"}) for n in range(11)]
    process.stop()

    assert [answer.status for answer in guesses] == [401] * 10 + [429]
    assert 1 <= int(guesses[-1].headers["retry-after"]) <= 61
