# What a step of the test prints: the secrets of its environment, in every way.
import base64, binascii, html, json, os, shlex, sys, urllib.parse
for name in ("PLAIN", "ODD", "LINES"):
    value = os.environ[name]
    raw = value.encode()
    print(value, "[" + value + "]", "\n   ".join(value.splitlines()), repr(value), ascii(value))
    for before in (b"", b"u", b"u:"):
        for after in (b"", b"\n", b"x"):
            whole = before + raw + after
            print(base64.b64encode(whole).decode(), base64.urlsafe_b64encode(whole).decode().rstrip("="))
            print(base64.encodebytes(whole).decode())
    print(binascii.hexlify(raw).decode(), binascii.hexlify(raw).decode().upper())
    print(urllib.parse.quote(value), urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value))
    print(json.dumps({"v": value}), json.dumps(json.dumps(value)), shlex.quote(value), html.escape(value))
    for channel in (1, 2):
        for byte in raw + b"\n":
            os.write(channel, bytes([byte]))
sys.stdout.flush()
mask = open(os.environ["CI_MASK"], "a")
mask.write("cnry-found" + "-out-44" "10\n")
mask.close()
print("cnry-found" + "-out-44" "10", base64.b64encode(b"cnry-found" + b"-out-44" b"10").decode())
with open(os.environ["CI_OUTPUT"], "a") as out:
    out.write("plain=%s\nlines<<END\n%s\nEND\n" % (os.environ["PLAIN"], os.environ["LINES"]))
    out.write("found=cnry-found" + "-out-44" "10\n")
with open(os.environ["CI_STEP_SUMMARY"], "a") as summary:
    summary.write("# %s\n%s\n" % (os.environ["ODD"], base64.b64encode(os.environ["LINES"].encode()).decode()))
value = html.escape(os.environ["ODD"])
with open("junit.xml", "w") as report:
    report.write('<testsuite name="%s"><testcase classname="%s" name="n %s"><failure message="%s">%s</failure>'
        "<system-out>%s</system-out></testcase></testsuite>" % ((value,) * 6))
