import { runStoreConformance } from '../../../test/conformance/store.ts';
import { MemoryStore } from './store.ts';

runStoreConformance('memory', () => new MemoryStore());
