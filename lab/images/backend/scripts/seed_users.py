"""Create `user` and `admin`, or set their passwords and roles again: `python -m scripts.seed_users`.

The passwords come from DEFAULT_USER_PASSWORD and ADMIN_USER_PASSWORD in the environment.
"""

import asyncio
import os
from datetime import UTC, datetime

import bcrypt
from app.database import Database, Document
from app.settings import Settings
from bson import ObjectId
from pymongo import AsyncMongoClient

# as many as passlib takes; BCRYPT_ROUNDS is the backend's
_ROUNDS = 12
_LINE = "=" * 50


async def _set_user(database: Database, name: str, password: str, *, admin: bool) -> None:
    now = datetime.now(UTC)
    role = "admin" if admin else "user"
    values: Document = {
        "hashed_password": bcrypt.hashpw(password.encode(), bcrypt.gensalt(_ROUNDS)).decode(),
        "role": role,
        "is_superuser": admin,
        "is_active": True,
        "updated_at": now,
    }
    if await database.users.find_one({"username": name}):
        print(f"User '{name}' exists - updating password, role={role}, is_superuser={admin}")
        await database.users.update_one({"username": name}, {"$set": values})
    else:
        print(f"Creating user '{name}' (role={role}, is_superuser={admin})")
        await database.users.insert_one(
            {
                "_id": ObjectId(),
                "user_id": str(ObjectId()),
                "username": name,
                "email": f"{name}@integr8scode.com",
                "created_at": now,
                **values,
            }
        )


async def seed(settings: Settings) -> None:
    """Write both users.

    Args:
        settings: where Mongo is.

    Raises:
        pymongo.errors.OperationFailure: Mongo refuses the password.
    """
    client: AsyncMongoClient[Document] = AsyncMongoClient(settings.MONGODB_URL)
    database = client.get_default_database(default=settings.DATABASE_NAME)
    print(f"Connecting to MongoDB (database: {database.name})...")
    await _set_user(database, "user", os.environ.get("DEFAULT_USER_PASSWORD", "user123"), admin=False)
    await _set_user(database, "admin", os.environ.get("ADMIN_USER_PASSWORD", "admin123"), admin=True)
    print(f"\n{_LINE}\nSEEDED USERS:\n{_LINE}")
    print("Default: user / user123  (or DEFAULT_USER_PASSWORD)")
    print("Admin:   admin / admin123 (or ADMIN_USER_PASSWORD)")
    print(_LINE)
    await client.close()


if __name__ == "__main__":
    asyncio.run(seed(Settings()))
