from __future__ import annotations

import hashlib

import pytest

from proxy.passwords import PasswordHash, new_token, token_hash

CHEAP = (2, 1, 1)


def test_a_token_is_random_and_its_hash_is_sha_256() -> None:
    made = {new_token() for _ in range(100)}
    assert len(made) == 100
    assert all(len(token) == 43 and "=" not in token for token in made)
    assert token_hash("abc") == hashlib.sha256(b"abc").hexdigest()
    assert token_hash("caf\udce9") == hashlib.sha256(b"caf\xe9").hexdigest()  # as header fields are read


def test_a_password_is_known_by_its_hash_alone() -> None:
    one, other = PasswordHash.of("Pass:wörd", CHEAP), PasswordHash.of("Pass:wörd", CHEAP)
    assert str(one) != str(other)
    for kept in (one, other, PasswordHash.parse(str(one))):
        assert kept.is_of("Pass:wörd")
        for wrong in ("", "pass:wörd", "Pass:wörd ", str(one)):
            assert not kept.is_of(wrong)


def test_the_hash_is_scrypt_as_its_text_says() -> None:
    """The vector of RFC 7914, section 12, that has the cost below our limit."""
    text = (
        "scrypt:1024:8:16:TmFDbA=="
        ":/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA=="
    )
    assert PasswordHash.parse(text).is_of("password")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "password",
        "scrypt:2:1:1:c2FsdA==",
        "scrypt:3:1:1:c2FsdA==:MTIzNDU2Nzg5MDEyMzQ1Ng==",  # N is no power of two
        "scrypt:1:1:1:c2FsdA==:MTIzNDU2Nzg5MDEyMzQ1Ng==",
        "scrypt:2:0:1:c2FsdA==:MTIzNDU2Nzg5MDEyMzQ1Ng==",
        "scrypt:2:1:0:c2FsdA==:MTIzNDU2Nzg5MDEyMzQ1Ng==",
        "scrypt:2:1:1:c2FsdA==:c2hvcnQ=",
        "scrypt:2:1:1:c2FsdA=:MTIzNDU2Nzg5MDEyMzQ1Ng==",
        "scrypt:268435456:8:1:c2FsdA==:MTIzNDU2Nzg5MDEyMzQ1Ng==",  # 256 GiB
        "scrypt:2:1:9999:c2FsdA==:MTIzNDU2Nzg5MDEyMzQ1Ng==\n",
    ],
)
def test_what_is_no_hash_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        PasswordHash.parse(text)
    assert not text or text not in str(caught.value)
