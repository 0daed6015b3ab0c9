// examples/egress-filter.ts behind rules: names from a file, read again on SIGHUP.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { startProgram } from '../fixtures/program.ts';
import { startFarEcho } from '../fixtures/programs/far-echo.ts';
import { relayNetwork, talk } from '../fixtures/relay-network.ts';

const script = fileURLToPath(new URL('../../examples/egress-filter.js', import.meta.url));

await inNamespace(t, import.meta.url, async () => {
  await relayNetwork(t);
  await startFarEcho(t, 'far', 80);
  nft(`table inet web {
    chain o {
      type nat hook output priority -100
      meta mark 7 accept
      tcp dport 80 redirect to :15001
    }
  }`);
  // What getaddrinfo(3) finds, for this namespace alone.
  writeFileSync('/run/hosts', '192.0.2.2 ok.test\n2001:db8::2 six.test\n127.0.0.1 rebound.test\n');
  sh('mount --bind /run/hosts /etc/hosts');
  writeFileSync('/run/names', '*.test:80/http # all of them\n!no.test\n192.0.2.2:7000\n');
  const filter = await startProgram(t, process.execPath, [script, '/run/names', '--mark', '7'], /listening/);

  const request = (name: string): string => `GET / HTTP/1.1\r\nHost: ${name}\r\n\r\n`;
  /** How a request for the name ends that is sent to an address of its own choice. */
  const ask = async (name: string, address = '198.51.100.7'): Promise<string> => {
    const { data, end } = await talk(address, 80, request(name));
    if (end === 'fin') t.equal(data, request(name), 'not a byte is lost');
    return end;
  };

  t.test('by name, wherever the client says that it is', async (t) => {
    t.equal(await ask('ok.test'), 'fin', 'where this host finds it');
    t.equal(await ask('six.test'), 'fin', 'over IPv6');
    t.equal(await ask('no.test'), 'ECONNRESET');
    t.equal(await ask('elsewhere.org'), 'ECONNRESET');
    t.equal(await ask('rebound.test'), 'ECONNRESET', 'its owner says that it is this host');
    t.ok(await filter.printed(/"name":"ok.test","protocol":"http","allowed":true,"reason":"end"/));
    t.ok(await filter.printed(/"name":"no.test",.*"allowed":false,"because":"deny no.test"/));
    t.ok(await filter.printed(/"name":"rebound.test",.*"error":"ERR_NAME_REFUSED"/));
  });

  t.test('what has no name', async (t) => {
    t.equal((await talk('192.0.2.2', 7000, 'words')).data, 'words', 'by its address');
    t.equal((await talk('198.51.100.7', 7000, 'words')).end, 'ECONNRESET');
    t.ok(await filter.printed(/"to":"198.51.100.7 7000","allowed":false,"because":"unnamed: deny"/));
  });

  t.test('SIGHUP', async (t) => {
    writeFileSync('/run/names', 'no.test\n');
    filter.child.kill('SIGHUP');
    t.ok(await filter.printed(/read the rules again/));
    t.equal(await ask('ok.test'), 'ECONNRESET');
    writeFileSync('/run/names', 'not a rule\n');
    filter.child.kill('SIGHUP');
    t.ok(await filter.printed(/the rules stay as they are: 'not a rule'/));
    t.equal(await ask('ok.test'), 'ECONNRESET');
  });
});
