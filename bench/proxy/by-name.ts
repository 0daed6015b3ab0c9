// The other proxies' configurations for deciding by the name that a client asks for.
import { writeFileSync } from 'node:fs';
import { maxConnections } from './measure.ts';
import { nginxStream } from './nginx-stream.ts';
import { type Mode, NAME, PROXY_PORT } from './topology.ts';

/** Waits for the first bytes, and passes what is for the one name that is allowed. */
export function haproxyByName(mode: Mode, directory: string): string[] {
  const file = `${directory}/haproxy-${mode}-names.cfg`;
  writeFileSync(
    file,
    `global
  nbthread 1
  maxconn ${maxConnections() - 400}
defaults
  mode tcp
  timeout connect 5s
  timeout client 900s
  timeout server 900s
listen proxy
  bind 0.0.0.0:${PROXY_PORT}${mode === 'tproxy' ? ' transparent' : ''}
  tcp-request inspect-delay 3s
  acl is_tls req.ssl_hello_type 1
  tcp-request content accept if is_tls { req.ssl_sni -i ${NAME} }
  tcp-request content reject if is_tls
  tcp-request content accept if { req.hdr(host) -i ${NAME} }
  tcp-request content reject
  option transparent
`,
  );
  return ['haproxy', '-db', '-q', '-f', file];
}

/** ssl_preread: TLS alone. */
export function nginxByName(directory: string): string[] {
  return nginxStream(
    directory,
    `map $ssl_preread_server_name $allowed { ${NAME} $server_addr:$server_port; default ""; }`,
    'ssl_preread on;',
    '$allowed',
  );
}
