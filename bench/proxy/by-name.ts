// The other proxies' configurations for deciding by the name that a client asks for.
import { haproxy } from './haproxy.ts';
import { nginxStream } from './nginx-stream.ts';
import { type Mode, NAME } from './topology.ts';

/** Waits for the first bytes, and passes what is for the one name that is allowed. */
export function haproxyByName(mode: Mode, directory: string, port: number): string[] {
  return haproxy(mode, directory, port, {
    listen: [
      'tcp-request inspect-delay 3s',
      'acl is_tls req.ssl_hello_type 1',
      `tcp-request content accept if is_tls { req.ssl_sni -i ${NAME} }`,
      'tcp-request content reject if is_tls',
      `tcp-request content accept if { req.hdr(host) -i ${NAME} }`,
      'tcp-request content reject',
      'option transparent',
    ],
  });
}

/** ssl_preread: TLS alone. */
export function nginxByName(directory: string, port: number): string[] {
  return nginxStream(
    directory,
    port,
    `map $ssl_preread_server_name $allowed { ${NAME} $server_addr:$server_port; default ""; }`,
    'ssl_preread on;',
    '$allowed',
  );
}
