import { describeReplication } from './replication.js';

describeReplication('filesystem', { burst: 300, kills: 6 });
