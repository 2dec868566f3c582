import { playIncidents } from './play-incidents.js';

playIncidents('postgres', 's3');
