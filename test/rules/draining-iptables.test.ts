// Draining, with iptables.
import { testDraining } from '../fixtures/drain-traffic.ts';

await testDraining(import.meta.url, 'iptables');
