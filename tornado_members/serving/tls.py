"""The TLS context of the listener."""

import ssl

from tornado_members.settings import SettingsError, Tls


def tls_context(tls: Tls) -> ssl.SSLContext | None:
    """Return a context for TLS 1.2 or later; None without server.tls.certificate.

    The files are read now. Raises SettingsError if they are missing or invalid.
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
        # With an empty password, OpenSSL refuses an encrypted key instead of prompting for one.
        context.load_cert_chain(tls.certificate, tls.key, password=b"")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise SettingsError(
            f"server.tls: {tls.certificate} and {tls.key} are not a PEM certificate with its key: "
            f"{reason}"
        ) from None
    return context
