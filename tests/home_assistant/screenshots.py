"""Pictures of the dashboard and the device page, taken by a headless Chromium from the Home Assistant
that run.py has started, after the rooms were listened to for a while."""

import asyncio
import base64
import json
import pathlib
import shutil
import subprocess
import tempfile
import time

import aiohttp

LISTEN = 200  # seconds of the recording, so that there is a history to see


def take(house, folder):
    house.kitchen.start()
    time.sleep(20)  # the rooms shall not say the same at the same time
    house.living_room.start()
    house.discovered("kitchen")
    house.discovered("living_room")
    time.sleep(LISTEN)
    house.core.service("switch.turn_off", entity_id="switch.undertone_living_room_transcription_consent")
    time.sleep(5)
    device = house.core.template("{{ device_id('sensor.undertone_kitchen_emotion') }}").strip()
    pages = {
        "dashboard.png": ("/undertone-sensor/rooms", 1200, 1130),
        "sensors.png": ("/undertone-sensor/sensors", 1200, 1000),
        "privacy.png": ("/undertone-sensor/privacy", 1200, 1000),
        "device.png": (f"/config/devices/device/{device}", 1200, 1130),
    }
    asyncio.run(Browser(house.core, folder, pages).run())


class Browser:
    def __init__(self, core, folder, pages):
        self.core, self.folder, self.pages, self.number = core, pathlib.Path(folder), pages, 0

    async def run(self):
        profile = tempfile.mkdtemp()
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0",
             f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            port_file = pathlib.Path(profile) / "DevToolsActivePort"
            for _ in range(300):
                if port_file.exists() and port_file.read_text().count("\n"):
                    break
                await asyncio.sleep(0.1)
            port = port_file.read_text().splitlines()[0]
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    page = next(p for p in await answer.json(content_type=None) if p["type"] == "page")
                async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as self.socket:
                    await self.photograph()
        finally:
            browser.kill()
            browser.wait()
            shutil.rmtree(profile, ignore_errors=True)

    async def ask(self, method, **parameters):
        self.number += 1
        await self.socket.send_json({"id": self.number, "method": method, "params": parameters})
        while True:
            answer = await self.socket.receive_json()
            if answer.get("id") == self.number:
                return answer.get("result", answer)

    async def photograph(self):
        await self.ask("Page.enable")
        tokens = {
            "access_token": self.core.token, "token_type": "Bearer", "expires_in": 1800, "hassUrl": self.core.url,
            "clientId": self.core.url + "/", "expires": int(time.time() * 1000) + 1_800_000, "refresh_token": self.core.refresh,
        }
        stored = f"localStorage.setItem('hassTokens', {json.dumps(json.dumps(tokens))}); localStorage.setItem('dockedSidebar', '\"always_hidden\"');"
        await self.ask("Page.addScriptToEvaluateOnNewDocument", source=stored)
        for name, (path, width, height) in self.pages.items():
            await self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
            await self.ask("Page.navigate", url=self.core.url + path)
            await asyncio.sleep(25)
            answer = await self.ask("Page.captureScreenshot", format="png")
            data = base64.b64decode(answer["data"])
            (self.folder / name).write_bytes(data)
            print(f"ok   {name}, {len(data) // 1024} KiB", flush=True)
