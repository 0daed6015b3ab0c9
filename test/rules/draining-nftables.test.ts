// Draining, with nftables.
import { testDraining } from '../fixtures/drain-traffic.ts';

await testDraining(import.meta.url, 'nftables');
