"""Signs requests with the official SDKs of Stripe and Twilio, tampers with them in every way there is,
and writes each down as a line of JSON with the status it must get."""

import hashlib
import json
import sys
import time

import stripe
from twilio.request_validator import RequestValidator

settings = json.load(sys.stdin)
SECRET, TOKEN = settings["stripe_secret"], settings["twilio_token"]
FORM = "application/x-www-form-urlencoded"


def write(case, path, headers, body, status):
    line = {"case": case, "path": path, "headers": headers, "body": body, "status": status}
    print(json.dumps(line))


# Stripe


def stripe_header(body, when, secret=SECRET, scheme="v1"):
    signature = stripe.WebhookSignature._compute_signature(f"{when}.{body}", secret)
    return f"t={when},{scheme}={signature}"


def stripe_case(case, header, body, status):
    headers = [["content-type", "application/json"]]
    values = [] if header is None else header if isinstance(header, list) else [header]
    write(f"stripe: {case}", "/webhooks/stripe", headers + [["stripe-signature", v] for v in values], body, status)


def event(name):
    return json.dumps({"id": f"evt_{name}", "object": "event", "type": "invoice.paid", "data": {"object": {"id": "in_1"}}})


now = int(time.time())
good = event("good")
header = stripe_header(good, now)
assert stripe.Webhook.construct_event(good, header, SECRET)["id"] == "evt_good"
stripe_case("signed by the SDK", header, good, 200)
for name, body in [("pretty", json.dumps(json.loads(event("pretty")), indent=2) + "\r\n"), ("unicode", event("uni").replace("in_1", "ünïcode"))]:
    stripe_case(name, stripe_header(body, now), body, 200)
rolled = event("rolled")
other = stripe_header(rolled, now, "whsec_other").split(",")[1]
stripe_case("a rolled secret, ours second", f"t={now},{other},{stripe_header(rolled, now).split(',')[1]}", rolled, 200)
stripe_case("almost too old", stripe_header(event("old"), now - 295), event("old"), 200)

bad = event("bad")
header = stripe_header(bad, now)
stamp, signature = header.split(",")
mac = signature.removeprefix("v1=")
for case, value in {
    "a wrong secret": stripe_header(bad, now, SECRET + "x"),
    "the secret without its prefix": stripe_header(bad, now, SECRET.removeprefix("whsec_")),
    "a stale time": stripe_header(bad, now - 400),
    "a future time": stripe_header(bad, now + 400),
    "another time than the signed one": f"t={now + 1},{signature}",
    "another scheme version": stripe_header(bad, now, scheme="v0"),
    "no such scheme": stripe_header(bad, now, scheme="v2"),
    "missing": None,
    "doubled": [header, header],
    "empty": "",
    "garbage": "garbage",
    "an empty v1": f"{stamp},v1=",
    "no v1": stamp,
    "no time": signature,
    "two times": f"{stamp},{stamp},{signature}",
    "a truncated signature": header[:-2],
    "half a signature": f"{stamp},v1={mac[:32]}",
    "a longer signature": header + "00",
    "upper case": f"{stamp},v1={mac.upper()}",
    "a time that is no number": f"t=soon,{signature}",
    "one flipped bit in the signature": f"{stamp},v1={'0' if mac[0] != '0' else '1'}{mac[1:]}",
    "a signature of the body alone": f"{stamp},v1=" + stripe.WebhookSignature._compute_signature(bad, SECRET),
}.items():
    stripe_case(case, value, bad, 401)
for at in range(0, len(bad), 7):
    flipped = bad[:at] + chr(ord(bad[at]) ^ 1) + bad[at + 1 :]
    stripe_case(f"one flipped bit at {at}", header, flipped, 401)
stripe_case("a line end appended", header, bad + "\n", 401)

# Twilio

validator = RequestValidator(TOKEN)
PATH = "/webhooks/twilio"
URL = settings["public_url"] + PATH


def quote(params):
    from urllib.parse import urlencode

    return urlencode(params)


def twilio_case(case, signature, body, status, path=PATH, content_type=FORM):
    values = [] if signature is None else signature if isinstance(signature, list) else [signature]
    headers = [["content-type", content_type]] + [["x-twilio-signature", v] for v in values]
    write(f"twilio: {case}", path, headers, body, status)


params = {"MessageSid": "SM1", "MessageStatus": "delivered", "From": "+15550001", "Body": "Grüße & 100 % + Ünïcode"}
signature = validator.compute_signature(URL, params)
assert validator.validate(URL, params, signature)
twilio_case("a form signed by the SDK", signature, quote(params), 200)
query = PATH + "?foo=1&bar=2"
twilio_case("with a query", validator.compute_signature(settings["public_url"] + query, params), quote(params), 200, query)
body = json.dumps({"id": "EV1", "type": "com.twilio.messaging"})
digest = PATH + "?bodySHA256=" + hashlib.sha256(body.encode()).hexdigest()
signed = validator.compute_signature(settings["public_url"] + digest, {})
twilio_case("JSON with its digest", signed, body, 200, digest, "application/json")

params["MessageSid"] = "SM2"
signature = validator.compute_signature(URL, params)
changed = dict(params, Body="other")
for case, value in {
    "a wrong token": RequestValidator(TOKEN + "x").compute_signature(URL, params),
    "another URL": validator.compute_signature(URL + "/", params),
    "http instead of https": validator.compute_signature(URL.replace("https", "http"), params),
    "another host": validator.compute_signature(URL.replace("hooks", "evil"), params),
    "missing": None,
    "doubled": [signature, signature],
    "empty": "",
    "garbage": "garbage",
    "truncated": signature[:-4],
    "the URL alone": validator.compute_signature(URL, {}),
}.items():
    twilio_case(case, value, quote(params), 401)
twilio_case("a changed parameter", signature, quote(changed), 401)
twilio_case("an added parameter", signature, quote(dict(params, Extra="1")), 401)
twilio_case("a parameter taken away", signature, quote({"MessageSid": "SM2"}), 401)
twilio_case("another query", signature, quote(params), 401, PATH + "?foo=1")
twilio_case("another body under its digest", signed, body + " ", 401, digest, "application/json")
