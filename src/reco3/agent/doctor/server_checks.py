"""Judges what came of asking the server: name, connection, certificate, who answers, clock, key.

It refuses to believe a word of it further than to show it, cut short and in ASCII.
"""

from collections.abc import Mapping
from datetime import timedelta

from reco3.agent.clocks import REGRESSION_LIMIT, as_text
from reco3.agent.config import AgentConfig
from reco3.agent.doctor.contact import Contact, KeyAnswer, Stage
from reco3.agent.doctor.findings import Finding, broken, foreign, note, ok, shown, warning
from reco3.agent.doctor.troubles import Trouble
from reco3.agent.http_client import BaseUrl

SMALL_SKEW = timedelta(seconds=30)
MAX_ADDRESSES = 3
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_TLS_CODES = {
    Trouble.NO_TLS: "tls",
    Trouble.TOO_EARLY: "tls_dates",
    Trouble.EXPIRED: "tls_dates",
    Trouble.UNKNOWN_AUTHORITY: "tls_authority",
    Trouble.WRONG_NAME: "tls_name",
}


def judge_contact(config: AgentConfig, contact: Contact) -> list[Finding]:
    """Everything about the server, as far as the connection came."""
    url = config.base_url
    where = f"{url.host}:{url.port}"
    if contact.stage is Stage.NAME:
        return [_no_name(url, contact)]
    addresses = ", ".join(shown(one, 60) for one in contact.addresses[:MAX_ADDRESSES])
    findings = [ok("server_name", f"{url.host} is {addresses}")]
    if contact.stage is Stage.CONNECTION:
        return [*findings, _no_connection(where, contact)]
    findings.append(ok("server_connection", f"{where} takes connections"))
    if contact.trouble in _TLS_CODES:
        return [*findings, judge_tls(url, contact.trouble)]
    if url.is_tls and contact.trouble is None:
        findings += _good_tls(url)
    if contact.stage is Stage.ANSWER or contact.greeting is None or not contact.greeting.is_reco3:
        return [*findings, _no_reco3(url, contact)]
    version = contact.greeting.version
    findings.append(
        ok("server_reco3", f"a RECO3 server answers at {where}" + (f", version {foreign(version)}" if version else ""))
    )
    return [*findings, judge_clock(contact), judge_key(config, contact)]


def judge_proxy(environment: Mapping[str, str]) -> Finding:
    """The agent has no use for proxies, which surprises where nothing else leads out."""
    names = sorted(name for name in environment if name.lower() in _PROXY_VARIABLES and environment[name])
    if names:
        return note(
            "proxy",
            f"{', '.join(names)} is set, and the agent ignores it: it connects to its server directly",
            "let this PC reach the server without a proxy",
        )
    return ok("proxy", "no proxy is set here; the agent would ignore one")


def _no_name(url: BaseUrl, contact: Contact) -> Finding:
    cure = (
        f"correct base_url, or this PC's name resolution; try: getent hosts {url.host} (Windows: nslookup {url.host})"
    )
    if contact.trouble is Trouble.SILENT:
        return broken("server_name", f"the name {url.host} was not resolved within 5 s", cure)
    return broken("server_name", f"there is no address for the name {url.host}", cure)


def _no_connection(where: str, contact: Contact) -> Finding:
    code = "server_connection"
    match contact.trouble:
        case Trouble.NO_LISTENER:
            cure = "start the server, or correct the port in base_url"
            return broken(code, f"nobody listens at {where}: the connection was refused", cure)
        case Trouble.SILENT:
            cure = "look for a firewall between this PC and the server, and whether the address in base_url is right"
            return broken(code, f"{where} did not answer within 5 s", cure)
        case _:
            cure = "look at this PC's network, and whether the address in base_url is right"
            return broken(code, f"no connection to {where}: {foreign(contact.words)}", cure)


def judge_tls(url: BaseUrl, trouble: Trouble) -> Finding:
    """What is wrong with the certificate."""
    code = _TLS_CODES[trouble]
    match trouble:
        case Trouble.EXPIRED:
            return broken(
                code,
                f"the certificate of {url.host} has expired, by this PC's clock",
                "renew it on the server; if it is new, this PC's clock is wrong: set it",
            )
        case Trouble.TOO_EARLY:
            return broken(
                code,
                f"the certificate of {url.host} is not valid yet, by this PC's clock",
                "set this PC's clock; if it is right, the certificate was made for later",
            )
        case Trouble.WRONG_NAME:
            return broken(
                code,
                f"the certificate at {url.host}:{url.port} was made for another name than {url.host}",
                "use the certificate's name in base_url, or give the server a certificate for this one",
            )
        case Trouble.UNKNOWN_AUTHORITY:
            return broken(
                code,
                f"no authority that this PC knows vouches for the certificate of {url.host}",
                "install the authority's certificate on this PC, or name its file in SSL_CERT_FILE in the environment "
                "of the agent's service; on the server, send the intermediate certificates along",
            )
        case _:
            return broken(
                code,
                f"{url.host}:{url.port} does not speak TLS, and base_url says https://",
                "correct the port in base_url, or put TLS in front of the server",
            )


def _good_tls(url: BaseUrl) -> list[Finding]:
    return [
        ok("tls", f"{url.host}:{url.port} speaks TLS"),
        ok("tls_dates", "its certificate is valid now"),
        ok("tls_authority", "an authority that this PC knows vouches for it"),
        ok("tls_name", f"it was made for {url.host}"),
    ]


def _no_reco3(url: BaseUrl, contact: Contact) -> Finding:
    where = f"{'https' if url.is_tls else 'http'}://{url.host}:{url.port}{url.path}"
    cure = "correct base_url, or start the server that it means"
    match contact.trouble:
        case Trouble.SILENT:
            return broken("server_reco3", f"{where} took the connection and did not answer within 5 s", cure)
        case Trouble.HUNG_UP:
            return broken("server_reco3", f"{where} closed the connection without an answer", cure)
        case _:
            said = f": {foreign(contact.words)}" if contact.words else ""
            return broken("server_reco3", f"what answers at {where} is no RECO3 server{said}", cure)


def judge_clock(contact: Contact) -> Finding:
    """How far this PC's clock is from the server's."""
    code = "clock_server"
    there, here = contact.greeting.server_time if contact.greeting else None, contact.local_time
    if there is None or here is None:
        return note(code, "the server does not tell its time, so this PC's clock was not compared")
    seconds = round((here - there).total_seconds())
    found = (
        f"this PC's clock is {abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} the server's "
        f"({as_text(here)} here, {as_text(there)} there)"
    )
    cure = "set the clock, and keep it set: timedatectl set-ntp true (Windows: w32tm /resync; macOS: systemsetup)"
    if abs(here - there) > REGRESSION_LIMIT:
        breaks = "approvals are valid for 15 minutes, and strong commands come too late or from the future"
        return broken(code, f"{found}: {breaks}", cure)
    if abs(here - there) > SMALL_SKEW:
        return warning(code, f"{found}: more than 2 minutes and strong commands are refused", cure)
    return ok(code, "this PC's clock agrees with the server's")


def judge_key(config: AgentConfig, contact: Contact) -> Finding:
    """Whether the server takes this PC's key."""
    code = "server_key"
    match contact.key:
        case KeyAnswer.GOOD:
            return ok(code, f"the server takes the key of {config.agent_id}")
        case KeyAnswer.REFUSED:
            return broken(
                code,
                f"the server refuses this key for {config.agent_id}: it is not enrolled there, or the key was "
                "replaced or revoked",
                f"on the server: reco3 enrol create --agent {config.agent_id} --may-replace; here: reco3 agent enrol "
                f"{config.path} --server {_address(config.base_url)} --token-file FILE",
            )
        case KeyAnswer.OLDER_IN_USE:
            return note(
                code,
                "not asked: the agent that runs may still use an older key, which asking with a rotated one would end",
                "restart the agent, then run the doctor again",
            )
        case KeyAnswer.NO_ROUTE:
            return note(code, "not checked: this server is of an older version, which cannot be asked about a key")
        case _:
            said = f": {foreign(contact.words)}" if contact.words else ""
            return warning(code, f"not checked: the server did not say whether it takes the key{said}", "try again")


def _address(url: BaseUrl) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{'https' if url.is_tls else 'http'}://{host}:{url.port}{url.path}"
