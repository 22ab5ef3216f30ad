"""The speed of the JSON codec, compared with google.protobuf.json_format.

All take turns in each round, so that a busy machine slows all of them; what is shown is CPU time, a
median of the rounds. Nothing is timed before all have agreed about every message.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from google.protobuf import json_format, message_factory
from google.protobuf.message import Message

from gateway.protojson.codec import JsonCodec
from gateway.protojson.text import parse_json
from gateway.upstream.descriptors import DescriptorSet

SLICE_SECONDS = 0.005
"""How long each converter works in a round, at least."""

Converter = Callable[[Any], Any]


@dataclass(frozen=True)
class Case:
    """JSON values of one message type, which are converted one after the other."""

    title: str
    message: str
    values: Sequence[Mapping[str, Any]]


def shop_cases() -> list[Case]:
    """Return what the shop's catalogue is written as, in the canonical representation."""
    products = [_product(number) for number in range(500)]
    plain = ("productId", "sku", "name", "description", "imageUri", "etag")
    texts = [{name: product[name] for name in plain} for product in products[:50]]
    page = {"products": products, "nextPageToken": "bmV4dA"}
    package = "bazaar.product.v1"
    return [
        Case("a product with all of its fields", f"{package}.Product", products[:50]),
        Case("a product of texts only", f"{package}.Product", texts),
        Case("a page of 500 products", f"{package}.ListProductsResponse", [page]),
    ]


def _product(number: int) -> dict[str, Any]:
    return {
        "productId": f"01920b3c-7e3a-7c3e-9d0a-{number:012x}",
        "sku": f"LAMP-BRASS-{number}",
        "name": f"Brass reading lamp, {number} cm",
        "description": "A swivelling arm, a linen shade and a switch that clicks.",
        "categories": ["lamps", "reading"],
        "price": {"currencyCode": "GBP", "units": str(60 + number % 40), "nanos": 500_000_000},
        "stock": {"available": 250, "reserved": 2, "sold": 748, "stocked": 1000},
        "imageUri": f"https://images.example.com/products/lamp-brass-{number}.jpg",
        "attributes": {"colour": "brass", "watts": 40.0},
        "etag": f"{number * 2654435761 % 2**32:08x}",
        "createTime": f"2024-{number % 12 + 1:02}-19T08:{number % 60:02}:30.123456Z",
        "updateTime": f"2025-{number % 12 + 1:02}-02T17:{number % 60:02}:12.654321Z",
    }


class Converters:
    """The converters of one message type, by the names to print; those of the codec first."""

    def __init__(self, descriptors: DescriptorSet, name: str) -> None:
        pool = descriptors.pool
        kind = pool.FindMessageTypeByName(name)
        new = message_factory.GetMessageClass(kind)
        codec = JsonCodec(pool)
        merge = codec.merger(kind)

        def read(text: bytes) -> Message:
            message = new()
            merge(parse_json(text), message)
            return message

        self.writers: Mapping[str, Converter] = {
            "dump": codec.dumper(kind),
            "MessageToDict, orjson.dumps": lambda message: orjson.dumps(
                json_format.MessageToDict(message, descriptor_pool=pool)
            ),
            "MessageToJson on one line": lambda message: json_format.MessageToJson(
                message, indent=None, descriptor_pool=pool
            ).encode(),
            "MessageToJson": lambda message: json_format.MessageToJson(
                message, descriptor_pool=pool
            ).encode(),
        }
        self.readers: Mapping[str, Converter] = {
            "parse_json, merge": read,
            "orjson.loads, ParseDict": lambda text: json_format.ParseDict(
                orjson.loads(text), new(), descriptor_pool=pool
            ),
            "Parse": lambda text: json_format.Parse(text, new(), descriptor_pool=pool),
        }


def compare(case: Case, converters: Converters, rounds: int) -> None:
    """Time the converters on a case, and print the results.

    Raises:
        ValueError: they do not agree.
    """
    texts = [orjson.dumps(value) for value in case.values]
    spaced = [json.dumps(value).encode() for value in case.values]
    messages = _agreed(converters.readers, texts)
    _agreed(converters.readers, spaced)
    _agreed(converters.writers, messages, orjson.loads)
    length = sum(map(len, texts)) // len(texts)
    print(f"{case.title}: {case.message}, {length:,} bytes")
    _show("out", _time(converters.writers, messages, rounds))
    _show("in", _time(converters.readers, texts, rounds))
    _show("in, with spaces", _time(converters.readers, spaced, rounds))


def _agreed(
    converters: Mapping[str, Converter],
    samples: Sequence[Any],
    key: Callable[[Any], Any] = lambda converted: converted,
) -> list[Any]:
    """Return what the first converter makes of the samples, if all others agree."""
    own, *others = converters.values()
    converted = [own(sample) for sample in samples]
    for convert in others:
        if [key(convert(sample)) for sample in samples] != [key(result) for result in converted]:
            raise ValueError("The converters do not agree.")
    return converted


def _time(
    converters: Mapping[str, Converter], samples: Sequence[Any], rounds: int
) -> dict[str, list[float]]:
    """Return the microseconds of one conversion in each round, by converter."""
    times: dict[str, list[float]] = {name: [] for name in converters}
    for _ in range(rounds):
        for name, convert in converters.items():
            times[name].append(_time_once(convert, samples))
    return times


def _time_once(convert: Converter, samples: Sequence[Any]) -> float:
    converted = 0
    begin = time.process_time()
    while True:
        for sample in samples:
            convert(sample)
        converted += len(samples)
        spent = time.process_time() - begin
        if spent >= SLICE_SECONDS:
            return spent / converted * 1e6


def _show(title: str, times: Mapping[str, Sequence[float]]) -> None:
    print(f"  {title}")
    own = next(iter(times.values()))
    for name, taken in times.items():
        ratio = statistics.median(theirs / ours for theirs, ours in zip(taken, own, strict=True))
        compared = "" if taken is own else f"{ratio:8.1f} times"
        print(f"    {name:30}{statistics.median(taken):12,.2f} us{compared}")


def main() -> None:
    """Measure the cases of the command line."""
    parser = argparse.ArgumentParser(
        description="Compare the gateway's JSON codec with google.protobuf.json_format.",
        epilog="Without --message the shop's products are measured.",
    )
    parser.add_argument("--descriptors", type=Path, required=True, help="a FileDescriptorSet")
    parser.add_argument("--message", help="full name of a message type, for example a.v1.Message")
    parser.add_argument("--json", type=Path, help="a file with a message of that type")
    parser.add_argument("--rounds", type=int, default=100, help="how often all take turns")
    options = parser.parse_args()
    if (options.message is None) != (options.json is None):
        parser.error("--message and --json go together")
    descriptors = DescriptorSet.parse(options.descriptors.read_bytes())
    for case in _cases(options.message, options.json):
        compare(case, Converters(descriptors, case.message), options.rounds)


def _cases(message: str | None, file: Path | None) -> list[Case]:
    if message is None or file is None:
        return shop_cases()
    # Bazel sets the directory in which it was run.
    path = Path(os.environ.get("BUILD_WORKING_DIRECTORY", ""), file)
    return [Case(path.name, message, [orjson.loads(path.read_bytes())])]


if __name__ == "__main__":
    main()
