"""Amounts that Stripe charges: https://docs.stripe.com/currencies."""

from tools.fakes.stripe.errors import NotExecutedError

MINIMUMS = {
    "aed": 2_00, "aud": 50, "brl": 50, "cad": 50, "chf": 50, "czk": 15_00, "dkk": 2_50, "eur": 50,
    "gbp": 30, "hkd": 4_00, "huf": 175_00, "inr": 50, "jpy": 50, "mxn": 10_00, "myr": 2_00,
    "nok": 3_00, "nzd": 50, "pln": 2_00, "ron": 2_00, "sek": 3_00, "sgd": 50, "thb": 10_00,
    "usd": 50,
}  # fmt: skip
"""The minimum charge amounts of accounts that settle in the same currency."""
_OTHERS = """
afn all amd ang aoa ars awg azn bam bbd bdt bhd bif bmd bnd bob bsd bwp byn bzd cdf clp cny cop
crc cve djf dop dzd egp etb fjd fkp gel gip gmd gnf gtq gyd hnl htg idr ils isk jmd jod kes kgs
khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mzn nad ngn
nio npr omr pab pen pgk php pkr pyg qar rsd rub rwf sar sbd scr shp sle sos srd std szl tjs tnd
top try ttd twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xof xpf yer zar zmw
"""
OTHERS = frozenset(_OTHERS.split())
"""The other currencies, in which any amount is charged that is not 0."""
THREE_DECIMALS = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
"""Their amounts must be multiples of 10."""
WHOLE_UNITS = frozenset({"isk", "ugx"})
"""Have two decimals in the API, which must be 00: see "Special cases" of the page."""
MAX_AMOUNT = 99_999_999
"""Amounts have up to eight digits: https://docs.stripe.com/api/payment_intents/create."""


def check_amount(amount: int, currency: str) -> None:
    """Check that an amount can be charged; `currency` is in lower case."""
    if currency not in MINIMUMS and currency not in OTHERS:
        raise NotExecutedError(f"Invalid currency: {currency}.", param="currency")
    if amount < max(1, MINIMUMS.get(currency, 1)):
        message = f"Amount must be at least {MINIMUMS.get(currency, 1)} {currency}"
        raise NotExecutedError(message, code="amount_too_small", param="amount")
    if amount > MAX_AMOUNT:
        message = f"Amount must be no more than {MAX_AMOUNT} {currency}"
        raise NotExecutedError(message, code="amount_too_large", param="amount")
    divisor = 100 if currency in WHOLE_UNITS else 10 if currency in THREE_DECIMALS else 1
    if amount % divisor:
        raise NotExecutedError(
            f"Invalid amount. Amounts of {currency} must be evenly divisible by {divisor}.",
            code="invalid_charge_amount_no_decimal_compatible",
            param="amount",
        )
