"""Writes python_repr.json: MessagePack payloads, and how Python prints what they hold, with map keys sorted.

Run in this folder with Python 3.9 or later and `pip install msgpack`. It reads the core's golden records too.
"""

import base64
import json
import math
import pathlib
import random
import struct
import unicodedata

import msgpack

CORE = pathlib.Path(__file__).parent / "../../triton-core/golden"
RANKS = {type(None): 0, bool: 1, int: 2, float: 2, str: 3, bytes: 4}


def settled(value):
    """Maps sorted by key; text that was no UTF-8 as bytes."""
    if isinstance(value, dict):
        pairs = [(settled(key), settled(item)) for key, item in value.items()]
        # Python cannot compare None with itself either, but a map has it once.
        pairs.sort(key=lambda pair: (RANKS[type(pair[0])], 0 if pair[0] is None else pair[0]))
        return dict(pairs)
    if isinstance(value, msgpack.ExtType) or isinstance(value, msgpack.Timestamp):
        return value
    if isinstance(value, list):
        return [settled(item) for item in value]
    if isinstance(value, str) and any("\udc80" <= char <= "\udcff" for char in value):
        return value.encode("utf-8", "surrogateescape")
    return value


cases = []


def payload(what, data):
    value = msgpack.unpackb(data, unicode_errors="surrogateescape", strict_map_key=False)
    cases.append({"what": what, "payload": base64.b64encode(data).decode(), "repr": repr(settled(value))})


def add(what, value):
    payload(what, msgpack.packb(value))


# One character at least of every category, none of which later versions of Unicode will change.
by_category = {}
for code in range(0x30000):
    char = chr(code)
    if 0xD800 <= code < 0xE000:
        continue
    found = by_category.setdefault(unicodedata.category(char), [])
    # The first three, and one that is far from them.
    if len(found) < 3 or (len(found) == 3 and code > 0xFFFF):
        found.append(char)
by_category["Cn"] = ["\ufdd0", "\ufdef", "\uffff", "\U0001fffe", "\U0010ffff"]
by_category["Co"] += ["\uf8ff", "\U000f0000", "\U0010fffd"]
for category, chars in sorted(by_category.items()):
    add(f"category {category}", {"msg": "a" + "b".join(chars) + "c"})
add("all of ASCII", "".join(map(chr, range(128))))
add("all of Latin-1", "".join(map(chr, range(128, 256))))
add("blanks", "a b\u00a0c\u3000d\u2009e\u202fe\u1680f\u2028g\u2029h")
add("formats", "\u00ad\u200b\u200e\u202e\u2066\ufeff\U000e0001\U0001d173")
add("emoji", "\U0001f642 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \U0001f1e9\U0001f1ea")
add("marks", "e\u0301 \u0915\u094d\u0937 \u05e9\u05c1")
add("scripts", "\u65e5\u672c\u8a9e \u0420\u0443\u0441 \u0627\u0644 \u0e44\u0e17\u0e22 \ud55c\uad6d")

for text in ["", "plain", "it's", 'say "hi"', "it's \"both\"", "'", '"', "\\", "\\'", "\\\"'", "\n\t\r", "\0\x07\x1b[31m\x7f", "a\\nb", "' \u00ff"]:
    add(f"text {text!r}", text)
    add(f"bytes of {text!r}", text.encode())
    add(f"a key {text!r}", {text: text})

for number in [
    0.0, -0.0, 1.0, -1.0, 0.1, 0.5, 1 / 3, 2 / 3, 100.0, 123456789.0, 1433969276.172019, 1e15, 1e15 + 0.5,
    9999999999999998.0, 1e16, 1.0000000000000002e16, 12345678901234567.0, 1e17, 1e22, 1e23, 1.5e300, 1e100, 1e99,
    0.001, 0.0001, 0.00012345, 9.999999999999999e-05, 1e-05, 1.5e-05, 1e-10, 1.234e-100, 2.2250738585072014e-308,
    2.225073858507201e-308, 5e-324, -5e-324, 1.7976931348623157e308, -1e16, -1.25e-05, 2.0**53, 2.0**53 + 2, 2.0**63, 2.0**64,
    758448555573241.25, 2039718370663479.25, 2.0**-44, 9.5e-05, -1e-05,
    4.35, 0.3, 1e21, math.pi, math.inf, -math.inf, math.nan, -math.nan,
]:
    add(f"float {number!r}", number)
for number in [0.0, -0.0, 1.0, 0.1, 0.5, 1.5, 3.4028234663852886e38, 1e-45, 1e16, 1e-5, 16777216.0, math.inf, -math.inf, math.nan]:
    payload(f"float32 {number!r}", b"\xca" + struct.pack(">f", number))

for bits in [5, 7, 8, 15, 16, 31, 32, 63, 64]:
    for number in [2**bits - 1, 2**bits, -(2**bits), -(2**bits) - 1]:
        if -(2**63) <= number < 2**64:
            add(f"integer {number}", number)
payload("a positive number that is written as signed", b"\xd1\x00\x05")
payload("a small number that is written wide", b"\xcf\x00\x00\x00\x00\x00\x00\x00\x05")

add("every byte", bytes(range(256)))
add("no bytes", b"")
payload("old raw bytes", b"\xa4\xff\xfe'\x00")
payload("a surrogate in UTF-8", b"\xa3\xed\xa0\x80")
payload("an overlong zero", b"\xa2\xc0\x80")
payload("UTF-8 that ends early", b"\xa5caf\xc3\xc3")
payload("old raw bytes as a key", b"\x82\xa2\xff\xfe\x01\xa1a\x02")

add("nothing", None)
add("truths", [True, False, None])
add("empty", [[], {}, "", b""])
add("nested maps", {"b": {"z": 1, "a": {"y": [1, {"q": 2, "p": 3}], "x": None}}, "a": [{"d": 1, "c": 2}]})
add("keys by code point", {key: 0 for key in ["\U0001f642", "\uffee", "z", "Z", "a", "\u00e9", "e\u0301", "", "aa", "a\0"]})
add("many keys", {f"key {n * 7919 % 101}": n for n in range(101)})
add("numbers for keys", {3: 0, -1: 0, 2.5: 0, 2**64 - 1: 0, -(2**63): 0, 1e300: 0, 0.1: 0})
add("bytes for keys", {b"b": 0, b"a": 0, b"": 0, b"\xff": 0})
add("keys of all kinds", {b"b": 0, "a": 0, 5: 0, 1.5: 0, True: 0, False: 0, None: 0})
add("deep", [[[[[[[[[[{"a": [{"b": [[{}]]}]}]]]]]]]]]])

for data in [b"", b"a", b"ab", b"abc", b"abcd", b"'12345678", b"\x00" * 16, b"\xff" * 17]:
    add(f"extension of {len(data)} bytes", msgpack.ExtType(5, data))
add("extension 127", msgpack.ExtType(127, b"x"))
for seconds, nanoseconds in [
    (0, 0), (1433969276, 0), (1433969276, 172019000), (2**32 - 1, 0), (2**32, 0), (2**34 - 1, 999999999), (2**34, 0),
    (-1, 0), (-1, 500000000), (-(2**63), 0), (2**63 - 1, 999999999),
]:
    add(f"timestamp {seconds} {nanoseconds}", {"at": msgpack.Timestamp(seconds, nanoseconds)})
payload("a timestamp that is longer than it needs be", b"\xc7\x0c\xff" + struct.pack(">Iq", 0, 1))

chance = random.Random(1433969276)
for n in range(30):
    bits = chance.getrandbits(64)
    (number,) = struct.unpack(">d", struct.pack(">Q", bits))
    add(f"float of bits {bits:016x}", number)
for n in range(20):
    chars = [chr(chance.choice([chance.randrange(0x20, 0x7F), chance.randrange(0xA0, 0x250), chance.randrange(0x4E00, 0x9FF0)])) for _ in range(20)]
    add(f"random text {n}", "".join(chars))

for n, case in enumerate(json.loads((CORE / "records.json").read_text())[:24]):
    payload(f"record {n}", base64.b64decode(case["new" if n % 2 else "old"]))
for case in json.loads((CORE / "odd_records.json").read_text()):
    # Python keeps one of the duplicates only.
    if case["what"] != "duplicate key":
        payload(case["what"], base64.b64decode(case["data"]))

lines = ",\n".join(json.dumps(case) for case in cases)
pathlib.Path(__file__).with_name("python_repr.json").write_text(f"[\n{lines}\n]\n")
