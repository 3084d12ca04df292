"""A real recogniser, pocketsphinx, behind the protocols' own libraries: what undertone's hooks must work with.

    recogniser.py --wyoming URI [--streaming]    the `wyoming` package; URI is tcp://127.0.0.1:PORT or unix://PATH
    recogniser.py --http PORT                    starlette and python-multipart, as OpenAI-style servers use them

Prints `ready` when it takes connections.
"""

import argparse
import asyncio
import contextlib
import io
import wave

from pocketsphinx import Decoder

DECODER = Decoder(samprate=16000, loglevel="FATAL")


def words(pcm: bytes) -> str:
    DECODER.start_utt()
    DECODER.process_raw(pcm, full_utt=True)
    DECODER.end_utt()
    best = DECODER.hyp()
    return best.hypstr if best else ""


async def serve_wyoming(uri: str, streaming: bool) -> None:
    from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
    from wyoming.audio import AudioChunk, AudioChunkConverter, AudioStart, AudioStop
    from wyoming.error import Error
    from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info
    from wyoming.server import AsyncEventHandler, AsyncServer

    by = Attribution(name="CMU Sphinx", url="https://cmusphinx.github.io")
    model = AsrModel(name="en-us", description="US English", attribution=by, installed=True, version="5", languages=["en"])
    program = AsrProgram(
        name="pocketsphinx", description="PocketSphinx", attribution=by, installed=True, version="5", models=[model]
    )

    class Handler(AsyncEventHandler):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.language = None
            self.started = False
            self.pcm = bytearray()
            self.convert = AudioChunkConverter(rate=16000, width=2, channels=1).convert

        async def handle_event(self, event) -> bool:
            if Describe.is_type(event.type):
                await self.write_event(Info(asr=[program]).event())
            elif Transcribe.is_type(event.type):
                self.language = Transcribe.from_event(event).language
            elif AudioStart.is_type(event.type):
                self.started = AudioStart.from_event(event).rate == 16000
            elif AudioChunk.is_type(event.type):
                self.pcm += self.convert(AudioChunk.from_event(event)).audio
            elif AudioStop.is_type(event.type):
                if self.language not in (None, "en") or not self.started:
                    await self.write_event(Error(text=f"no model for {self.language}", code="language").event())
                    return False
                text = await asyncio.get_running_loop().run_in_executor(None, words, bytes(self.pcm))
                if streaming:
                    await self.write_event(TranscriptStart().event())
                    for i, word in enumerate(text.split()):
                        await self.write_event(TranscriptChunk(text=word if i == 0 else f" {word}").event())
                await self.write_event(Transcript(text=text).event())
                if streaming:
                    await self.write_event(TranscriptStop().event())
                return False
            return True

    server = AsyncServer.from_uri(uri)
    running = asyncio.ensure_future(server.run(Handler))
    await asyncio.sleep(0.2)
    print("ready", flush=True)
    await running


def serve_http(port: int) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def transcribe(request):
        if request.headers.get("authorization") != "Bearer sk-test":
            return JSONResponse({"error": {"message": "Incorrect API key provided"}}, status_code=401)
        async with request.form() as form:
            if form.get("model") != "whisper-1" or form.get("response_format") != "json":
                return JSONResponse({"error": {"message": f"unknown model {form.get('model')}"}}, status_code=400)
            upload = form["file"]
            with wave.open(io.BytesIO(await upload.read())) as recording:
                assert recording.getparams()[:3] == (1, 2, 16000), recording.getparams()
                pcm = recording.readframes(recording.getnframes())
        return JSONResponse({"text": await asyncio.to_thread(words, pcm)})

    @contextlib.asynccontextmanager
    async def lifespan(_app):
        print("ready", flush=True)
        yield

    app = Starlette(routes=[Route("/v1/audio/transcriptions", transcribe, methods=["POST"])], lifespan=lifespan)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--wyoming")
    parser.add_argument("--streaming", action="store_true")
    parser.add_argument("--http", type=int)
    args = parser.parse_args()
    if args.wyoming:
        asyncio.run(serve_wyoming(args.wyoming, args.streaming))
    else:
        serve_http(args.http)


if __name__ == "__main__":
    main()
