// What first bytes say: hellos and heads as they should be, hostile ones, real ones, and all of them cut anywhere.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import t, { type Test } from 'tap';
import { getExtensionData, readTlsClientHello } from 'read-tls-client-hello';
import { parseFirstBytes } from '../../lib/names/parse.ts';
import { alpn, ech, GOOD_HELLOS, hello, HOSTILE_HELLOS, serverName, versions } from '../fixtures/hellos.ts';
import { GOOD_HEADS, HOSTILE_HEADS, OTHER } from '../fixtures/heads.ts';

const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

/** Cut anywhere: no name and no answer too early; never a wait for more than there would be. */
function checkCuts(t: Test, bytes: Buffer, label: string): void {
  const whole = parseFirstBytes(bytes);
  const wrong: string[] = [];
  for (let length = 0; length < bytes.length; length += bytes.length > 4000 ? 97 : 1) {
    const { first, need } = parseFirstBytes(bytes.subarray(0, length));
    if (need === 0 ? first.name !== whole.first.name : first.name !== undefined)
      wrong.push(`name at ${length}`);
    if (need !== 0 && need <= length) wrong.push(`asks for nothing at ${length}`);
    if (whole.need === 0 && need > bytes.length) wrong.push(`waits in vain at ${length}`);
  }
  t.same(wrong, [], `${label}, cut anywhere`);
}

t.test('hellos for a name', (t) => {
  for (const [label, { bytes, name }] of Object.entries(GOOD_HELLOS)) {
    t.match(parseFirstBytes(bytes), { need: 0, first: { protocol: 'tls', name, ech: false, bytes } }, label);
    checkCuts(t, bytes, label);
  }
  t.end();
});

t.test('as another parser reads them, which knows hellos of one record', async (t) => {
  for (const [label, { bytes, name }] of Object.entries(GOOD_HELLOS)) {
    if (/records|larger|longest|dot/.test(label)) continue;
    const stream = new PassThrough();
    stream.write(bytes);
    const parsed = await readTlsClientHello(stream);
    t.equal(getExtensionData(parsed, 'server_name')?.serverName?.toLowerCase(), name, label);
  }
});

t.test('what else a hello says', (t) => {
  const { first } = parseFirstBytes(
    hello({
      extensions: [
        ech,
        serverName('outer.example'),
        alpn('h2', 'http/1.1'),
        versions(0x4a4a, 0x0304, 0x0303),
      ],
    }),
  );
  t.match(first, {
    name: 'outer.example',
    ech: true,
    alpn: ['h2', 'http/1.1'],
    tlsVersions: ['TLSv1.3', 'TLSv1.2'],
  });
  t.same(parseFirstBytes(hello({ version: 0x0302 })).first.tlsVersions, ['TLSv1.1'], 'without the extension');
  t.equal(parseFirstBytes(hello({ version: 0x0305 })).first.tlsVersions, undefined, 'an unknown one');
  t.equal(parseFirstBytes(hello({ extensions: [alpn('h2')] })).first.alpn?.[0], 'h2', 'also without a name');
  const many = Array.from({ length: 100 }, (_, i) => `protocol-${i}`);
  t.match(parseFirstBytes(hello({ extensions: [serverName('a.example'), alpn(...many)] })).first, {
    name: 'a.example',
    alpn: undefined,
  });
  t.equal(
    parseFirstBytes(hello({ extensions: [versions(...Array<number>(20).fill(0x0303))] })).first.tlsVersions
      ?.length,
    8,
  );
  t.end();
});

t.test('hellos that give no name', (t) => {
  t.ok(Object.keys(HOSTILE_HELLOS).length >= 40);
  for (const [label, bytes] of Object.entries(HOSTILE_HELLOS)) {
    const { first, need } = parseFirstBytes(bytes);
    t.match(
      { need, protocol: first.protocol, name: first.name },
      { need: 0, protocol: 'tls', name: undefined },
      label,
    );
    checkCuts(t, bytes, label);
  }
  t.end();
});

t.test('heads for a name', (t) => {
  for (const [label, { head, name }] of Object.entries(GOOD_HEADS)) {
    t.match(parseFirstBytes(latin1(head)), { need: 0, first: { protocol: 'http', name, ech: false } }, label);
    checkCuts(t, latin1(head), label);
  }
  const { first } = parseFirstBytes(latin1(GOOD_HEADS['absolute form']!.head));
  t.match(first, { method: 'GET', target: 'http://a.example/x' });
  t.end();
});

t.test('heads that give no name', (t) => {
  t.ok(Object.keys(HOSTILE_HEADS).length >= 40);
  for (const [label, head] of Object.entries(HOSTILE_HEADS)) {
    const { first, need } = parseFirstBytes(latin1(head));
    t.match(
      { need, protocol: first.protocol, name: first.name },
      { need: 0, protocol: 'http', name: undefined },
      label,
    );
    checkCuts(t, latin1(head), label);
  }
  t.end();
});

t.test('what is neither', (t) => {
  for (const [label, bytes] of Object.entries(OTHER)) {
    const { first, need } = parseFirstBytes(bytes);
    t.match({ need, first }, { need: 0, first: { protocol: 'other', name: undefined, ech: false } }, label);
    checkCuts(t, bytes, label);
  }
  t.match(parseFirstBytes(Buffer.alloc(0)), { need: 1, first: { protocol: 'silent' } });
  t.end();
});

t.test('HTTP/2 with prior knowledge', (t) => {
  const preface = latin1('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  t.match(parseFirstBytes(Buffer.concat([preface, Buffer.alloc(9)])), {
    need: 0,
    first: { protocol: 'http2' },
  });
  t.match(parseFirstBytes(preface.subarray(0, 10)), { need: 11, first: { protocol: 'http2' } });
  t.match(parseFirstBytes(latin1('PR')), { need: 3, first: { protocol: 'other' } });
  t.match(parseFirstBytes(latin1('PROPFIND / HTTP/1.1\r\nHost: a.example\r\n\r\n')), {
    need: 0,
    first: { protocol: 'http', method: 'PROPFIND', name: 'a.example' },
  });
  t.match(parseFirstBytes(latin1('PRI * HTTP/2.0\r\n\r\nNO\r\n\r\n')), {
    need: 0,
    first: { protocol: 'http', name: undefined },
  });
  t.end();
});

/** What a client sends first to a server that says nothing. */
async function sentBy(start: (port: number) => () => void): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const stop = start((server.address() as AddressInfo).port);
  const [socket] = await accepted;
  let bytes = Buffer.alloc(0);
  while (parseFirstBytes(bytes).need > 0) {
    const [more] = (await once(socket, 'data')) as [Buffer];
    bytes = Buffer.concat([bytes, more]);
  }
  socket.on('error', () => {}).destroy();
  server.close();
  stop();
  return bytes;
}

t.test('real clients', async (t) => {
  const tls = (options: ConnectionOptions) => (port: number) => {
    const socket = connectTls({ port, host: '127.0.0.1', servername: 'a.example', ...options });
    socket.on('error', () => {});
    return () => void socket.destroy();
  };
  t.match(parseFirstBytes(await sentBy(tls({ ALPNProtocols: ['h2', 'http/1.1'] }))).first, {
    protocol: 'tls',
    name: 'a.example',
    alpn: ['h2', 'http/1.1'],
    tlsVersions: ['TLSv1.3', 'TLSv1.2'],
  });
  t.match(parseFirstBytes(await sentBy(tls({ maxVersion: 'TLSv1.2' }))).first, {
    name: 'a.example',
    tlsVersions: ['TLSv1.2'],
  });
  t.match(parseFirstBytes(await sentBy(tls({ servername: '' }))).first, { protocol: 'tls', name: undefined });

  const openssl =
    (...more: string[]) =>
    (port: number) => {
      const child = spawn('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...more], {
        stdio: 'ignore',
      });
      return () => void child.kill();
    };
  const fragmented = await sentBy(
    openssl('-servername', 'A.Example', '-max_send_frag', '512', '-alpn', 'h2', '-groups', 'ffdhe8192'),
  );
  t.ok(fragmented.length > 1024 && fragmented.readUInt16BE(3) === 512, 'a hello of several records');
  t.match(parseFirstBytes(fragmented).first, { name: 'a.example', alpn: ['h2'] });
  checkCuts(t, fragmented, 'a real one');
  t.match(parseFirstBytes(await sentBy(openssl('-noservername'))).first, {
    protocol: 'tls',
    name: undefined,
  });
  t.match(execFileSync('openssl', ['version'], { encoding: 'utf8' }), /OpenSSL/);

  const http = await sentBy((port) => {
    const sent = request({ port, host: '127.0.0.1', path: '/x', headers: { host: 'a.example' } }).on(
      'error',
      () => {},
    );
    sent.end();
    return () => void sent.destroy();
  });
  t.match(parseFirstBytes(http).first, { protocol: 'http', name: 'a.example', method: 'GET', target: '/x' });
  const http2 = await sentBy((port) => {
    const session = connectHttp2(`http://127.0.0.1:${port}`).on('error', () => {});
    return () => session.destroy();
  });
  t.match(parseFirstBytes(http2).first, { protocol: 'http2', name: undefined });
});
