// examples/mmproxy.ts: the server sees the address that the header names.
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { whoami } from '../fixtures/dialling.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { startProgram } from '../fixtures/program.ts';

await inNamespace(t, import.meta.url, () => {
  t.test('mmproxy', async (t) => {
    // As its header says.
    sh('ip rule add from 127.0.0.1/8 iif lo lookup 123 && ip route add local default dev lo table 123');
    const { port } = await whoami(t, '127.0.0.1');
    const example = fileURLToPath(new URL('../../examples/mmproxy.js', import.meta.url));
    const proxy = await startProgram(t, process.execPath, [example, '8080', String(port)], /listening/);

    const talk = async (words: string): Promise<string> => {
      const socket = connect({ port: 8080, host: '127.0.0.1', allowHalfOpen: true });
      socket.end(words);
      return text(socket).catch(({ code }: NodeJS.ErrnoException) => String(code));
    };
    const answer = await talk('PROXY TCP4 192.0.2.77 198.51.100.7 40000 443\r\nhello');
    t.match(answer, /^\{"address":"192\.0\.2\.77","port":\d+\}\nhello$/);
    await proxy.printed(/192\.0\.2\.77 40000 end\n/);
    t.match(await talk('hello'), 'ECONNRESET', 'no header');
    t.match(await talk('PROXY TCP6 2001:db8::1 2001:db8::7 40000 443\r\nhello'), 'ECONNRESET');
  });
});
