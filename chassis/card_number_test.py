"""Card numbers are recognised in text, and other digits are not."""

import pytest

from chassis.card_number import is_card_number


@pytest.mark.parametrize(
    "text",
    [
        "4242424242424242",
        "4242 4242 4242 4242",
        "card:4111-1111-1111-1111!",
        "pm_5555555555554444",
        "378282246310005 ",
        "4222222222222",
        "6304000000000000000",
        "\uff14242424242424242",
        "4242424242424242 123",
        "12 4242424242424242",
        "4242424242424242abcd",
        "a4242424242424242bcdef",
        "42424242424242421226123",
        "42424242424242424242",
        "42" * 16,
        "4242.4242.4242.4242",
        f"x{'a' * 16}{'42' * 8}",
    ],
)
def test_a_card_number_is_recognised_however_it_is_written(text: str) -> None:
    assert is_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pm_card_visa",
        "4242424242424241",
        "424242424242",
        "pm_1MqLiJLkdIwHu7ixUEgbFdYl",
        "1763805600000006",
        "20261122104849123456",
        "01932c07-4242-4242-8242-424242424242",
        f"pm_{'a' * 16}{'42' * 8}",
        f"{'42' * 16}deadbeef",
        f"{'42' * 30}cafe",
        "4242/4242/4242/4242",
    ],
)
def test_other_digits_are_no_card_number(text: str) -> None:
    assert not is_card_number(text)
