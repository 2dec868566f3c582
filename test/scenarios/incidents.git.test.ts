import { playIncidents } from './play-incidents.js';

playIncidents('git', 'filesystem');
