import * as KafkaJs from "../../src/KafkaJs.ts"
import { security } from "./suite.ts"

security({ name: "KafkaJs", layer: KafkaJs.layer })
