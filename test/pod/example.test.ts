// examples/sidecar in the pod, behind rules that know nothing of it: both modes, both directions, both families.
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { canonicalAddress, formatEndpoint } from '../../lib/address.ts';
import { bareEnvironment } from '../fixtures/bare-environment.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { asUser } from '../fixtures/other-user.ts';
import { buildPod, dialFromPod, FAMILIES, through, type Dial } from '../fixtures/pod.ts';
import { startProgram } from '../fixtures/program.ts';
import { sidecarRules } from '../fixtures/sidecar-rules.ts';
import {
  APP_PORT,
  AWAY_PORT,
  awayServer,
  converse,
  localOf,
  podServer,
} from '../fixtures/sidecar-scenarios.ts';

t.setTimeout(120_000);

const SIDECAR = fileURLToPath(new URL('../../examples/sidecar/sidecar.js', import.meta.url));

await inNamespace(
  t,
  import.meta.url,
  async () => {
    const pod = await buildPod(t);
    const dialFromClient: Dial = (to) => pod.client.dial(to);

    for (const [mode, uid] of [
      ['redirect', 1337],
      ['tproxy', 0],
    ] as const) {
      await t.test(mode, async (t) => {
        sidecarRules(t, mode);
        const app = await podServer(t, APP_PORT);
        const web = await awayServer(t, pod, AWAY_PORT);
        const command = [
          ...bareEnvironment,
          `INTERCEPTION_MODE=${mode.toUpperCase()}`,
          ...asUser(uid, 1337),
          process.execPath,
          SIDECAR,
        ];
        const sidecar = await startProgram(t, 'env', command, /"event":"ready"/);
        /** The line that the access log has of the connection between those two. */
        const logged = async (peer: string): Promise<unknown> => {
          const quoted = peer.replace(/[[\].]/g, '\\$&');
          return JSON.parse((await sidecar.printed(new RegExp(`^.*"peer":"${quoted}".*$`, 'm')))[0]);
        };
        const whole = { protocol: 'tcp', sent: 8, received: 10, end: 'end' };

        for (const { pod: own, away, client, out, passthrough } of Object.values(FAMILIES)) {
          const inward = await through(t, app, dialFromClient, { host: own, port: APP_PORT });
          const from = localOf(inward.left);
          t.equal(canonicalAddress(inward.right.remoteAddress!)!, mode === 'redirect' ? passthrough : client);
          await converse(t, inward);
          const destination = formatEndpoint({ address: own, port: APP_PORT });
          t.match(await logged(from), { direction: 'inbound', kind: mode, destination, ...whole });

          const outward = await through(t, web, dialFromPod, { host: away(9), port: AWAY_PORT });
          const program = localOf(outward.left);
          const there = formatEndpoint({ address: away(9), port: AWAY_PORT });
          t.equal(localOf(outward.right), there);
          t.equal(canonicalAddress(outward.right.remoteAddress!)!, out);
          await converse(t, outward);
          t.match(await logged(program), {
            direction: 'outbound',
            kind: 'redirect',
            destination: there,
            ...whole,
          });
        }
      });
    }
  },
  { root: true },
);
