// What a client's first bytes say: which protocol it speaks, and the name that it asks for.

/**
 * What is known of a connection from the client's first bytes, before any of them has been relayed: a TLS ClientHello
 * (RFC 8446 section 4.1.2), the head of an HTTP/1 request (RFC 9112), or the preface of HTTP/2 (RFC 9113 section 3.4).
 *
 * All of it is a claim of the client's. A name says what the client asks for, not where the connection goes.
 */
export interface FirstBytes {
  /**
   * `'tls'`, `'http'` and `'http2'` are what the bytes are, or are the beginning of: a hello that was cut short is
   * `'tls'` without a name. `'silent'`: the client has sent nothing in time, or has ended without a byte.
   */
  readonly protocol: 'tls' | 'http' | 'http2' | 'other' | 'silent';
  /**
   * The server_name of the ClientHello (RFC 6066), or the host of the request: of its Host field, and of an
   * absolute-form or CONNECT target, which must agree. A DNS name as it was sent, but in lower case and without the
   * one dot that may end it; never an IP address. Absent wherever there could be two opinions about it, and for `'http2'`,
   * whose requests are compressed and may each ask for another.
   */
  readonly name?: string;
  /** The protocols of the ClientHello's ALPN extension (RFC 7301), in its order. */
  readonly alpn?: readonly string[];
  /** The versions that the ClientHello offers, in its order, as Node.js names them: `'TLSv1.3'`, `'TLSv1.2'`. */
  readonly tlsVersions?: readonly string[];
  /**
   * Does the ClientHello have an encrypted_client_hello extension (RFC 9849)? Then `name` may be the outer name of
   * another one that nobody between the client and the server can see. Browsers send the extension with random
   * content too, and the two cannot be told apart.
   */
  readonly ech: boolean;
  /** Of an HTTP/1 request, as it was sent. */
  readonly method?: string;
  /** The request target of an HTTP/1 request, as it was sent. */
  readonly target?: string;
  /** The bytes themselves, as far as they were looked at. A copy. */
  readonly bytes: Buffer;
}
