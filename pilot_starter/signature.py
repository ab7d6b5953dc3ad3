"""Is the pilot's tarball signed with the site's key?

The signature is what `openssl dgst -sha256 -sign key.pem` writes, in a file
beside the tarball: any machine can make and check it, and so can Google's KMS
(EC_SIGN_P256_SHA256). A checksum says that the bytes are those that somebody
named; a signature, that the owner of a key did.
"""

from pathlib import Path

from pilot_starter.errors import FetchError

__all__ = ["check_signature"]


def check_signature(tarball: Path, signature: bytes, public_key: Path) -> None:
    """Return if the signature is of this key and these bytes.

    Parameters
    ----------
    public_key
        PEM, elliptic curve or RSA.

    Raises
    ------
    FetchError
        It is not, or that cannot be told: the key cannot be read, or the
        package `cryptography` is not installed.
    """
    # Imported when needed: most sites trust HTTPS and a checksum.
    try:
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as err:
        raise FetchError(f"{tarball.name}: its signature cannot be checked: {err}") from err
    try:
        key = load_pem_public_key(public_key.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as err:
        raise FetchError(f"{public_key}: no public key to check the signature with: {err}") from err
    data = tarball.read_bytes()
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(signature, data, ec.ECDSA(SHA256()))
            case rsa.RSAPublicKey():
                key.verify(signature, data, padding.PKCS1v15(), SHA256())
            case _:
                raise FetchError(f"{public_key}: neither an elliptic curve nor an RSA key")
    except InvalidSignature as err:
        raise FetchError(f"{tarball.name}: the signature is not of {public_key} and these bytes") from err
