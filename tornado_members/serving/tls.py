"""TLS: the certificate, and what is spoken."""

import ssl

from tornado_members.settings import SettingsError, Tls


def tls_context(tls: Tls) -> ssl.SSLContext | None:
    """TLS 1.2 or later with the certificate as it is now; None where none is wanted.

    Raises SettingsError.
    """
    if tls.certificate is None or tls.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    for name, file in (("certificate", tls.certificate), ("key", tls.key)):
        try:
            file.read_bytes()
        except OSError as error:
            raise SettingsError(f"server.tls.{name}: {file}: {error.strerror}") from None
    try:
        # An encrypted key is none that a service can open: OpenSSL would ask on the terminal.
        context.load_cert_chain(tls.certificate, tls.key, password=b"")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise SettingsError(
            f"server.tls: {tls.certificate} and {tls.key} are no PEM certificate with its key: "
            f"{reason}"
        ) from None
    return context
